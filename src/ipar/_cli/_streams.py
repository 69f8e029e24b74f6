"""Cells of a file whose expression stays on the disk, and a copy of the file that has results beside it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py

from ipar._cli._files import A_ZARR, found, in_zarr, is_zarr, named, read, told, understood, write
from ipar._files import replaced, replaced_directory
from ipar._slots import check_pointers, check_slots, size_of
from ipar._space import check_space

_READ = ("obs", "var", "uns", "obsm", "obsp", "varm", "varp")
_CHANGED = ("obsm", "obsp", "uns")


class Stream:
    """Cells of an h5ad file or a zarr store to place.

    Where the output is of the same kind, X and layers stay on the disk, and the output is a copy of the file to which only
    results are written. Else, or in a file of an old version of anndata, all is read.

    Parameters
    ----------
    path, output
        The file and the output.
    """

    def __init__(self, path: str, output: str) -> None:
        self.path, self.output = found(path), Path(output)
        with ExitStack() as opened:
            lazy = in_zarr(self.path) == in_zarr(self.output)
            with understood(path):
                file = opened.enter_context(_opened(self.path)) if lazy else None
                self.streamed = file is not None and file.attrs.get("encoding-type") == "anndata"
                if self.streamed:
                    self.adata = _left_on_disk(file)
            if self.streamed:
                with named(path):
                    check_slots(self.adata)
                self._before = {slot: dict(getattr(self.adata, slot)) for slot in _CHANGED}
            self._open = opened.pop_all()  # after an error, the file is closed
        if not self.streamed:
            self.close()
            self.adata = read(path)

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def write(self) -> None:
        """Write the output as a whole: an interrupted write leaves the old one."""
        if not self.streamed:
            return write(self.adata, self.output)
        self.close()
        self.adata.strings_to_categoricals(self.adata.obs)  # as write_h5ad does
        changed = {slot: self._changes(slot) for slot in _CHANGED}
        added = size_of({"obs": self.adata.obs} | changed) * 5 // 4 + (1 << 22)
        size = sum(one.stat().st_size for one in (self.path, *self.path.rglob("*")) if one.is_file()) + added
        check_space(self.output, size)
        if in_zarr(self.output):
            with replaced_directory(self.output, is_zarr, A_ZARR, size=size) as staging, told(self.output):
                _copy_store(self.path, staging)
                with _without_index(staging), _opened(staging, "r+") as file:
                    self._patch(file, changed, {})
            return None
        with replaced(self.output, size=size) as staging:
            shutil.copyfile(self.path, staging)
            _reserve(staging, added)
            with told(self.output), _opened(staging, "r+") as file:
                self._patch(file, changed, {"compression": "gzip"})
        return None

    def _changes(self, slot: str) -> dict[str, Any]:
        before = self._before[slot]
        return {key: one for key, one in getattr(self.adata, slot).items() if one is not before.get(key)}

    def _patch(self, file: Any, changed: dict[str, dict[str, Any]], options: Mapping[str, Any]) -> None:
        ad.io.write_elem(file, "obs", self.adata.obs, dataset_kwargs=options)
        for slot, values in changed.items():
            if slot not in file:
                ad.io.write_elem(file, slot, {})
            for key in self._before[slot].keys() - getattr(self.adata, slot).keys():
                del file[slot][key]
            for key, value in values.items():
                ad.io.write_elem(file[slot], key, value, dataset_kwargs=options)


@contextmanager
def _opened(path: Path, mode: Any = "r") -> Iterator[Any]:
    if not in_zarr(path) and not path.is_dir():
        with h5py.File(path, mode) as file:
            yield file
    else:
        import zarr

        yield zarr.open_group(str(path), mode=mode)


def _left_on_disk(file: Any) -> ad.AnnData:
    """An AnnData with X, layers and those of ``raw`` on the disk where they can be read by rows."""
    slots = {slot: ad.io.read_elem(file[slot]) for slot in _READ if slot in file}
    if "layers" in file:
        slots["layers"] = {key: _matrix(file["layers"][key]) for key in file["layers"].keys()}
    if "raw" in file and file["raw"].attrs.get("encoding-type") == "raw":  # in a zarr store there may be nothing in it
        slots["raw"] = {"X": _matrix(file["raw/X"]), "var": ad.io.read_elem(file["raw/var"])}
    return ad.AnnData(_matrix(file["X"]) if "X" in file else None, **slots)


def _matrix(element: Any) -> Any:
    kind = element.attrs.get("encoding-type")
    if kind == "csr_matrix":
        check_pointers(element, element.name.strip("/"))
        return ad.io.sparse_dataset(element)
    return element if kind == "array" else ad.io.read_elem(element)


def _copy_store(source: Path, target: Path) -> None:
    """Copy what is in a directory into another one; shutil would go on after a full disk."""
    for directory, _, names in os.walk(source):
        there = target / Path(directory).relative_to(source)
        there.mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(Path(directory) / name, there / name)


@contextmanager
def _without_index(store: Path) -> Iterator[None]:
    """A zarr store without its index of metadata, which would not have what is written; it is made anew at the end."""
    old, root = store / ".zmetadata", store / "zarr.json"
    record = json.loads(root.read_text()) if root.exists() else {}
    indexed = old.exists() or record.pop("consolidated_metadata", None) is not None
    if indexed:
        old.unlink(missing_ok=True)
        if root.exists():
            root.write_text(json.dumps(record))
    yield
    if indexed:
        import zarr

        with warnings.catch_warnings(action="ignore"):  # zarr's own, that others may not read the index
            zarr.consolidate_metadata(str(store))


def _reserve(path: Path, size: int, block: int = 1 << 20) -> None:
    """Take space at the end of an HDF5 file, which HDF5 gives back: where it finds none, it ends the process."""
    with path.open("ab") as file:
        for _ in range(-(-size // block)):
            file.write(bytes(block))
