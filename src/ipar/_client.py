"""The Dask client that the user made, and whether its workers can do the work of this process."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from itertools import islice
from typing import Any


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


def check_workers(client: Any) -> None:
    """Raise RuntimeError, which names them, if workers have another version of ipar or PyTorch, or none."""
    own = own_versions()
    check_versions(own, {package: client.run(version, package, on_error="return") for package in own})


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
def own_versions() -> dict[str, str]:
    """Versions of the packages that must be the same everywhere."""
    return {package: _public(version(package)) for package in ("ipar", "torch")}
