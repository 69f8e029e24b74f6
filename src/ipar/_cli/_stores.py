"""A table of a SpatialData store: its expression stays on the disk, and results go to another file, or back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipar._cli._files import A_ZARR, check_output, found, is_zarr
from ipar._files import directory_of

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class StoredTable:
    """A table of a SpatialData store, and where results go.

    Attributes
    ----------
    store
        The store.
    table_key
        Name of the table.
    output
        A file for the table with results, or the store itself.
    points_key
        Name of the points element that is added to the store, if the output is the store.
    """

    store: Path
    table_key: str
    output: Path
    points_key: str

    @classmethod
    def of(cls, store: str, table_key: str, output: str, points_key: str) -> StoredTable:
        """Find a table, and check that results can be written.

        Raises
        ------
        OSError, KeyError, ValueError
            If there is no such store or table, or an element of the name of the points.
        ImportError
            If points are to be added, and spatialdata is not installed.
        """
        where, tables = found(store), tables_of(store)
        if table_key not in tables:
            msg = f"{store} has no table {table_key!r}, found {tables}: name a table of a SpatialData store by --table-key."
            raise KeyError(msg)
        own = cls(where, table_key, Path(output), points_key)
        if own.back:
            directory_of(own.path, is_zarr, A_ZARR)
            own._check_points()
        else:
            check_output(output)
        return own

    @property
    def path(self) -> Path:
        """The table."""
        return self.store / "tables" / self.table_key

    @property
    def back(self) -> bool:
        """Whether results go back to the store."""
        return self.output.resolve() == self.store.resolve()

    @property
    def target(self) -> Path:
        """Where the table with results is written."""
        return self.path if self.back else self.output

    def _check_points(self) -> None:
        from ipar.get._tables import import_spatialdata

        import_spatialdata()
        there = [one for one in self.store.glob(f"*/{self.points_key}") if one.is_dir()]
        if there or not self.points_key.strip() or "/" in self.points_key:
            why = f"has an element {self.points_key!r} already" if there else "needs a name of the points"
            msg = f"{self.store} {why}, and elements are never replaced: choose another name by --points-key."
            raise ValueError(msg)

    def add_points(self, adata: AnnData, key: str) -> None:
        """Add predicted coordinates to the store as a new element, if results go back to it."""
        if not self.back:
            return
        import spatialdata

        import ipar

        sdata = spatialdata.read_zarr(self.store, selection=("points",))
        sdata[self.points_key] = ipar.get.points(adata, key)
        sdata.write_element(self.points_key)


def tables_of(store: str) -> list[str]:
    """Names of the tables of a SpatialData store; none for anything else."""
    return sorted(one.name for one in (Path(store) / "tables").glob("[!.]*") if one.is_dir())


def refuse_store(path: str) -> None:
    """Raise ValueError, which names its tables, if it is a SpatialData store."""
    if tables := tables_of(path):
        msg = f"{path} is a SpatialData store with the tables {tables}: name one of these by --table-key."
        raise ValueError(msg)
