"""Independent pieces of work: done here, or on the workers of a Dask cluster to which the user has connected.

Code that has such pieces hands a function of the module level to :func:`pool`. Results come in the order of the pieces, so
that they are the same for any number of workers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar
from uuid import uuid4
from weakref import WeakSet

from ipar._client import active_client, check_versions, check_workers, own_versions
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
    _imports: list[Any] = field(default_factory=list, repr=False)
    _all: WeakSet[Any] = field(default_factory=WeakSet, repr=False)  # what is not done and not dropped

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
            self._imports.append(self.client.submit(load, key=key, workers=[address], priority=3))
        self._all.update(self._imports)

    def close(self) -> None:
        """Cancel what is under way, and let go of what workers keep."""
        for future in list(self._all):  # an error's traceback may hold some
            future.release()
        self._kept.clear()

    def _submit(self, name: str, function: Callable[..., T], args: tuple[Any, ...], priority: int) -> Any:
        key = f"ipar-{name}-{uuid4().hex}"
        args = tuple(self._as_future(arg) for arg in args)
        with _large_graphs():
            future = self.client.submit(_work, own_versions(), function, *args, key=key, priority=priority)
        self._all.add(future)
        return future

    def _as_future(self, arg: Any) -> Any:
        """Parts of a piece that are to be read by Dask, under way; others as they are."""
        if isinstance(arg, tuple):
            return tuple(self._as_future(part) for part in arg)
        return self.client.compute(arg) if hasattr(arg, "__dask_graph__") else arg

    def _share(self, thing: Any) -> Any:
        from dask.base import tokenize

        if thing is None or (isinstance(thing, tuple) and not thing) or isinstance(thing, int | float):
            return thing
        key = f"ipar-shared-{tokenize(thing)}"
        if key not in self._kept:
            with _large_graphs():
                self._kept[key] = self.client.submit(_same, thing, key=key, priority=2)
            self._all.add(self._kept[key])
        self._kept.move_to_end(key)
        future = self._kept[key]
        while len(self._kept) > self.n_kept:
            self._kept.popitem(last=False)  # tasks that wait for it keep it
        return future

    def _gathered(self, pending: deque[Any], started: Iterator[Any]) -> Iterator[Any]:
        while pending:
            future = pending.popleft()
            result = future.result()
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
    check_workers(client)
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
            del item  # no more than is asked for is held
            yield taken.popleft()
        yield from taken

    return rest()


def load() -> None:
    """Import what takes long."""
    import ipar.model  # noqa: F401


def _same(thing: T) -> T:
    return thing


def _work(wanted: dict[str, str], function: Callable[..., T], *args: Any) -> T:
    """What a worker does; one that has joined since the call began is checked here."""
    own = own_versions()
    if own != wanted:
        from distributed import get_worker

        address = get_worker().address
        check_versions(wanted, {package: {address: own[package]} for package in own})
    keep_memory()
    with own_settings():
        return function(*args)
