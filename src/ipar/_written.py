"""What a call wrote to an AnnData in a forked process, which had a copy of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from anndata import AnnData

T = TypeVar("T")

SLOTS = ("obs", "var", "obsm", "obsp", "uns")


class Answer(Generic[T]):
    """A result, and the entries of an AnnData that were written or removed on the way."""

    result: T

    def __init__(self) -> None:
        self.written: dict[str, dict[str, Any]] = {}
        self.removed: dict[str, list[str]] = {}

    @contextmanager
    def of_writing(self, adata: AnnData) -> Iterator[None]:
        """Note what is written within."""
        before = {slot: dict(getattr(adata, slot)) for slot in SLOTS}
        yield
        for slot, old in before.items():
            now = dict(getattr(adata, slot))
            # columns are new objects whenever they are asked for, and records are changed in place
            if slot in ("obs", "var", "uns"):
                written = {key: value for key, value in now.items() if key not in old or key.startswith("ipar")}
            else:
                written = {key: value for key, value in now.items() if value is not old.get(key)}
            self.written[slot] = written
            self.removed[slot] = [key for key in old if key not in now]

    def write(self, file: IO[bytes]) -> None:
        """Write it for the process that this one was forked from."""
        pickle.dump(self, file)
        file.flush()

    @classmethod
    def read(cls, file: IO[bytes]) -> Answer[T]:
        """Read what a forked process wrote to an open file."""
        file.seek(0)
        found: Answer[T] = pickle.load(file)  # noqa: S301 - the bytes of a process of ours, in a file without a name
        return found

    def given_to(self, adata: AnnData) -> T:
        """Write the same to another copy, and give the result."""
        for slot in SLOTS:
            target = getattr(adata, slot)
            for key in self.removed[slot]:
                del target[key]
            for key, value in self.written[slot].items():
                target[key] = value
        return self.result
