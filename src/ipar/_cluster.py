"""Independent pieces of work: done here, or on the workers of a Dask cluster to which the user has connected.

Code that has such pieces hands a function of the module level to :func:`pool`. Results come in the order of the pieces, so
that they are the same for any number of workers.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from ipar._memory import give_memory_back, keep_memory
from ipar._settings import own_settings

T = TypeVar("T")


class Pool(Protocol):
    """Where independent pieces of work are done."""

    @property
    def here(self) -> bool:
        """Whether that is in this process."""

    @property
    def n_ahead(self) -> int:
        """Pieces of work that may be under way while the next one is prepared."""

    def map(
        self, name: str, function: Callable[..., T], items: Iterable[Any], *shared: Any, later: bool = False
    ) -> Iterator[T]:
        """Results of a function of every item and of what all of them share, in the order of the items.

        Work on a sequence starts at once, and an iterator is read as work is done. ``later`` is work that others go before.
        """

    def start(self, name: str, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """Start one piece of work; gives a function that waits for its result."""

    def agree(self, function: Callable[..., Any], *args: Any) -> bool:
        """Whether a function has the same result, other than None, everywhere."""


class Here:
    """Work is done in this process, when its result is asked for."""

    here = True
    n_ahead = 0

    def map(
        self, name: str, function: Callable[..., T], items: Iterable[Any], *shared: Any, later: bool = False
    ) -> Iterator[T]:
        """See :meth:`Pool.map`."""
        return (function(item, *shared) for item in items)

    def start(self, name: str, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """See :meth:`Pool.start`."""
        return partial(function, *args)

    def agree(self, function: Callable[..., Any], *args: Any) -> bool:
        """See :meth:`Pool.agree`."""
        return function(*args) is not None


@dataclass
class Workers:
    """The workers of a Dask cluster.

    What pieces share, such as a network, is a task of its own, named by its content: workers get it once, and the
    scheduler can have it made again. A lost worker's tasks are done again by Dask.

    Attributes
    ----------
    client
        The user's client.
    n_kept
        Shared objects that workers keep for what comes next, beside those in use.
    """

    client: Any
    n_kept: int = 8
    here: bool = False
    _kept: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False)
    _under_way: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_ahead(self) -> int:
        """See :class:`Pool`."""
        return max(sum(map(int, self.client.nthreads().values())), 1)

    def map(
        self, name: str, function: Callable[..., T], items: Iterable[Any], *shared: Any, later: bool = False
    ) -> Iterator[T]:
        """See :meth:`Pool.map`."""
        known = isinstance(items, Sequence)
        if known and len(items) < 2:  # type: ignore[arg-type]
            return Here().map(name, function, items, *shared)
        sent = [self._share(one) for one in shared]
        started = (self._submit(name, function, (item, *sent), -int(later)) for item in items)
        return self._gathered(deque(islice(started, None if known else 2 * self.n_ahead + 2)), started)

    def start(self, name: str, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """See :meth:`Pool.start`."""
        future = self._submit(name, function, args, 1)
        return lambda: next(self._gathered(deque([future]), iter(())))

    def agree(self, function: Callable[..., Any], *args: Any) -> bool:
        """See :meth:`Pool.agree`."""
        own = function(*args)
        return own is not None and all(one == own for one in self.client.run(function, *args).values())

    def prepare(self) -> None:
        """Have workers import what takes long, while cells are read."""
        for address in self.client.nthreads():
            key = f"ipar-import-{uuid4().hex}"
            self._under_way[key] = self.client.submit(_load, key=key, workers=[address], priority=3)

    def close(self) -> None:
        """Cancel what is under way, and let go of what workers keep."""
        for future in [*self._under_way.values(), *self._kept.values()]:
            future.release()
        self._under_way.clear()
        self._kept.clear()

    def _submit(self, name: str, function: Callable[..., T], args: tuple[Any, ...], priority: int) -> Any:
        key = f"ipar-{name}-{uuid4().hex}"
        args = tuple(self._as_future(arg) for arg in args)
        with _large_graphs():
            future = self.client.submit(_work, _own_versions(), function, *args, key=key, priority=priority)
        self._under_way[key] = future
        return future

    def _as_future(self, arg: Any) -> Any:
        """Parts of a piece that are to be read by Dask, under way; others as they are."""
        if isinstance(arg, tuple):
            return tuple(self._as_future(part) for part in arg)
        return self.client.compute(arg) if hasattr(arg, "__dask_graph__") else arg

    def _share(self, thing: Any) -> Any:
        from dask.base import tokenize

        if not hasattr(thing, "__len__") and not hasattr(thing, "__dict__"):  # a number
            return thing
        key = f"ipar-shared-{tokenize(thing)}"
        if key not in self._kept:
            with _large_graphs():
                self._kept[key] = self.client.submit(_same, thing, key=key, priority=2)
        self._kept.move_to_end(key)
        future = self._kept[key]
        while len(self._kept) > self.n_kept:
            self._kept.popitem(last=False)  # tasks that wait for it keep it
        return future

    def _gathered(self, pending: deque[Any], started: Iterator[Any]) -> Iterator[Any]:
        while pending:
            future = pending.popleft()
            result = future.result()
            del self._under_way[future.key]
            future.release()
            pending.extend(islice(started, 1))
            yield result


def _large_graphs() -> Any:
    """What is sent by way of the scheduler on purpose, which can then send it again, needs no warning."""
    from dask import config

    return config.set({"distributed.admin.large-graph-warning-threshold": "1 PiB"})


_pool: ContextVar[Pool] = ContextVar("ipar_pool", default=Here())  # noqa: B039 - it is never changed


def pool() -> Pool:
    """Where the work of the call under way is done."""
    return _pool.get()


@contextmanager
def on_workers() -> Iterator[None]:
    """Work is done on the workers of the Dask client of the context, if there is one; at the end nothing is left there.

    Raises
    ------
    RuntimeError
        If workers have another version of ipar or PyTorch, or none.
    """
    client = active_client()
    if client is None or not pool().here:
        yield
        return
    own = _own_versions()
    check_versions(own, {package: client.run(version, package, on_error="return") for package in own})
    workers = Workers(client)
    workers.prepare()
    token = _pool.set(workers)
    try:
        yield
        client.run(give_memory_back, on_error="ignore")
    finally:
        _pool.reset(token)
        workers.close()


def ahead(items: Iterable[T], n: int) -> Iterator[T]:
    """Items, of which so many are taken before they are asked for."""
    source = iter(items)
    taken = deque(islice(source, n))

    def rest() -> Iterator[T]:
        for item in source:
            taken.append(item)
            yield taken.popleft()
        yield from taken

    return rest()


def active_client() -> Any:
    """The Dask client of the context; None without one, within a task, or where Dask is told to use another scheduler."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    from dask import config

    if config.get("scheduler", None) not in (None, "distributed", "dask.distributed"):
        return None
    try:
        client = distributed.default_client()
    except ValueError:
        return None
    try:
        distributed.get_worker()
    except ValueError:
        pass
    else:
        return None  # work within a task that waits for other tasks may wait for ever
    if client.asynchronous:
        msg = "The Dask client is asynchronous, and ipar waits for its results: connect by distributed.Client(address) instead."
        raise ValueError(msg)
    return client


def check_versions(wanted: dict[str, str], found: dict[str, dict[str, str | Exception]], most_named: int = 5) -> None:
    """Raise RuntimeError, which names them, if workers have other versions of packages than wanted.

    ``found`` has the version by the address of the worker, or an exception for none, of every package.
    """
    for package, own in wanted.items():
        others = {address: one for address, one in found[package].items() if _public(one) != own}
        if others:
            named = [f"{address} has {_public(one)}" for address, one in islice(sorted(others.items()), most_named)]
            more = f", and {len(others) - most_named} more differ" if len(others) > most_named else ""
            msg = (
                f"Workers of the Dask cluster need {package} {own}, as this process has it, but {', '.join(named)}{more}: "
                f"install {package}=={own} in the environment of the workers, and start them again."
            )
            raise RuntimeError(msg)


def _public(found: str | Exception) -> str:
    """A version without what it was built for: those for CPUs and GPUs work together."""
    return "none" if isinstance(found, Exception) else found.partition("+")[0]


@cache
def _own_versions() -> dict[str, str]:
    return {package: _public(version(package)) for package in ("ipar", "torch")}


def _load() -> None:
    """Import what takes long."""
    import ipar.model  # noqa: F401


def _same(thing: T) -> T:
    return thing


def _work(wanted: dict[str, str], function: Callable[..., T], *args: Any) -> T:
    """What a worker does; one that has joined since the call began is checked here."""
    own = _own_versions()
    if own != wanted:
        from distributed import get_worker

        address = get_worker().address
        check_versions(wanted, {package: {address: own[package]} for package in own})
    keep_memory()
    with own_settings():
        return function(*args)
