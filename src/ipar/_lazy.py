"""Lazy AnnData objects: their tables in memory, their matrices where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData


def with_tables(adata: AnnData) -> AnnData:
    """The same object, or of a lazy one another with the same matrices, and its tables and ``uns`` in memory."""
    if isinstance(adata.obs, pd.DataFrame) and isinstance(adata.var, pd.DataFrame):
        return adata
    return ad.AnnData(
        adata.X,
        obs=in_memory(adata.obs).set_axis(adata.obs_names.rename(None)),  # which a table without columns would lose
        var=in_memory(adata.var).set_axis(adata.var_names.rename(None)),
        uns=in_memory(adata.uns),
        **{slot: dict(getattr(adata, slot)) for slot in ("layers", "obsm", "obsp")},
    )


def write_back(found: AnnData, adata: AnnData) -> None:
    """Give a lazy object what was written to that of :func:`with_tables`: its ``obs`` and ``uns`` are then in memory."""
    if found is adata:
        return
    for slot in ("obsm", "obsp"):
        own, new = getattr(adata, slot), getattr(found, slot)
        for key in [key for key in own if key not in new]:
            del own[key]
        for key, value in new.items():
            own[key] = value
    adata.obs, adata.uns = found.obs, found.uns


def in_memory(value: Any) -> Any:
    """A lazy array or table, or a dictionary of these, computed; others as they are."""
    if isinstance(value, pd.DataFrame):
        return value
    if hasattr(value, "to_memory"):  # which a lazy table has, that is a mapping, too
        return value.to_memory()
    if isinstance(value, Mapping):
        return {key: in_memory(one) for key, one in value.items()}
    return value.compute() if hasattr(value, "dask") else value
