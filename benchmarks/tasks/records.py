"""Results on disk: one file of JSON lines per page, one record per line.

A record holds what identifies a run (its task, method and seed, say) beside what was measured. Lines are sorted by
identity, so that a new run changes one line of the file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]

RESULTS = Path("benchmarks/results")
KEYS = {
    "benchmarks": ("task", "method", "seed"),
    "ablations": ("fold", "group", "seed"),
    "candidates": ("task", "seed"),
    "dissociated": ("task", "method", "seed"),
    "family": ("task", "member", "seed"),
    "family_experiments": ("task", "variant", "seed"),
    "iga": ("task", "mode", "seed"),
    "iga_experiments": ("task", "variant", "seed"),
    "ladder": ("task", "rung"),
    "localisability": ("kind", "grade", "seed"),
    "polish": ("task", "seed"),
    "speed": ("name", "version"),
    "peer_speed": ("peer", "n_cells"),
    "frames": ("tissue", "seed"),
    "trust": ("model", "kind", "query"),
    "regions": ("task", "slide"),
    "attention": ("n_cells", "n_threads", "method"),
    "large": ("name",),
    "cluster": ("n_cells", "n_slides", "n_workers"),
}
"""What identifies a record of each page."""


def read(page: str, folder: Path = RESULTS) -> list[Record]:
    """All records of a page, in the order of their identities; none, where nothing has been measured."""
    path = folder / f"{page}.jsonl"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def keep(page: str, record: Record, folder: Path = RESULTS, *, key: tuple[str, ...] | None = None) -> None:
    """Add a record to a page's file; it replaces the one of the same identity.

    The file is written whole or not at all. Other processes may add records at the same time.

    Parameters
    ----------
    page, record
        Name of the page, and what to add.
    folder
        Where the files are.
    key
        Names of what identifies a record; those of ``KEYS``, if not given.
    """
    names = key or KEYS[page]
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        found = {_identity(one, names): one for one in [*read(page, folder), record]}
        lines = [_line(found[identity]) for identity in sorted(found)]
        staging = folder / f"{page}.part"
        staging.write_text("".join(lines), encoding="utf-8")
        os.replace(staging, folder / f"{page}.jsonl")


def kept(
    page: str, identity: Record, make: Callable[[], Record], folder: Path = RESULTS, *, fresh: bool = False
) -> Record:
    """The record of a run: from the file or, if it is not there or should be ``fresh``, made and kept."""
    for record in [] if fresh else read(page, folder):
        if all(record[name] == identity[name] for name in KEYS[page]):
            return record
    record = identity | make()
    keep(page, record, folder)
    return record


def _identity(record: Record, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def _line(record: Record) -> str:
    # only the outer keys: within them the order is that of rows on a page
    return json.dumps(dict(sorted(record.items())), ensure_ascii=False) + "\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other threads and processes that keep records there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
