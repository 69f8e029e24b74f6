"""What can be believed of a prediction, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import BELONGS, COORDS, Keys, plain_array, stored_record, uncertainty_key
from ipar._options import Checked
from ipar._public import public
from ipar.model import IPALite
from ipar.model.values import Recognition
from ipar.tl._cells import cells_of_record, known_ipalite

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Doubt(Checked):
    """From when on a cell is called doubtful.

    Attributes
    ----------
    least_belongs
        Cells that belong less are doubtful; of left-out training cells, this share is.
    most_error
        So are cells with a larger expected error, in RMS radii of the tissue. At 1, nothing is known.
    """

    least_belongs: float = 0.01
    most_error: float = 0.8


@public
def report(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    groupby: str | None = None,
    use_rep: str = COORDS,
    layer: str | None = None,
    doubt: Doubt | None = None,
) -> dict[str, Any]:
    """Collect what can be believed of a prediction: the tissue, the query, its values and cells, and controls.

    Parameters
    ----------
    adata
        Cells after :func:`predict_coords`.
    model
        The model that placed them (default: the model fitted on this AnnData).
    groupby
        Column of ``obs``, such as cell types, by which doubtful cells are counted.
    use_rep
        Key of the layout in ``obsm``.
    layer
        Layer that the prediction read (default: ``X``).
    doubt
        From when on a cell is called doubtful.

    Returns
    -------
    dict
        ``"summary"``
            The findings, a sentence each.
        ``"tissue"``
            Verdict on the training slides: whether the tissue can be localised, and the figures of held-out slides.
        ``"query"``
            DataFrame with a row per slide: whether it resembles the training slides, and the figures.
        ``"genes"``
            Numbers of the model's genes that are in the data, and that are missing.
        ``"values"``
            DataFrame of how expression is stored in the data and in the model: base of logarithms, median total, largest value.
        ``"coverage"``
            DataFrame of the levels of :func:`predict_regions` and the coverage that holds at least; empty without regions.
        ``"cells"``
            Numbers of cells, of cells without counts, and of doubtful cells; quantiles of the expected error.
        ``"doubtful"``
            DataFrame with the number and share of doubtful cells and the mean expected error, by group and by how far out in
            the layout.
        ``"controls"``
            DataFrame of the figures of held-out slides beside those of chance.

    Raises
    ------
    KeyError
        If there is no prediction, or no such column.

    See Also
    --------
    ipar.pl.report : The same as a figure or a page.
    """
    doubt = doubt or Doubt()
    model, _ = known_ipalite(adata, model, Keys())
    prediction = stored_record(adata, "prediction")
    if not prediction or use_rep not in adata.obsm:
        msg = f"adata has no prediction in obsm[{use_rep!r}]: run ipar.tl.predict_coords first."
        raise KeyError(msg)
    if groupby is not None and groupby not in adata.obs:
        msg = f"adata.obs has no column {groupby!r}: name a column with groups of cells as groupby."
        raise KeyError(msg)
    error, belongs = (_column(adata, key) for key in (uncertainty_key(use_rep), BELONGS))
    doubtful = (error > doubt.most_error) | (belongs < doubt.least_belongs)
    tissue = dict(model.record.get("localisability", {}))
    regions = stored_record(adata, "regions")
    n_known, n_found = len(model.encoder.genes), int(prediction["n_genes"])
    found: dict[str, Any] = {
        "tissue": tissue,
        "query": pd.DataFrame(prediction.get("resembles_training", {})),
        "genes": {"known": n_known, "found": n_found, "missing": n_known - n_found},
        "values": _values(adata, model, layer),
        "coverage": pd.DataFrame({name: regions.get(name, []) for name in ("levels", "floors")}),
        "cells": _cells(error, belongs, doubtful),
        "doubtful": _where(
            adata, groupby, plain_array(adata.obsm[use_rep], f"obsm[{use_rep!r}]")[:, :2], error, doubtful
        ),
        "controls": _controls(tissue),
    }
    other = cells_of_record(adata)
    return {"summary": _summary(found) + ([] if other is None else [other])} | found


def _column(adata: AnnData, key: str) -> NDArray[np.float64]:
    if key not in adata.obs:
        return np.full(adata.n_obs, np.nan)
    values: NDArray[np.float64] = adata.obs[key].to_numpy(dtype=np.float64)
    return values


def _values(adata: AnnData, model: IPALite, layer: str | None) -> pd.DataFrame:
    """How some cells of the data, and the model's training slides, are stored; empty for an embedding."""
    columns = ["stored as", "base", "median total", "largest"]
    if model.scale is None:
        return pd.DataFrame(columns=columns)
    recognition, x = Recognition(), adata.X if layer is None else adata.layers[layer]
    own = recognition.of(sparse.csr_matrix(x[recognition.sample(np.arange(adata.n_obs))]))
    rows = {
        "data": (own.form.kind, own.form.base, own.whole, own.largest),
        "model": ("logarithms", model.scale.base, model.scale.total, model.scale.largest),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _cells(
    error: NDArray[np.float64], belongs: NDArray[np.float64], doubtful: NDArray[np.bool_]
) -> dict[str, int | float]:
    finite = error[np.isfinite(error)]
    quantiles = np.quantile(finite, [0.1, 0.5, 0.9]) if len(finite) else np.full(3, np.nan)
    named = {f"expected_error_{q}": float(x) for q, x in zip((10, 50, 90), quantiles, strict=True)}
    n_empty = int(np.isnan(belongs).sum()) if np.isfinite(belongs).any() else 0
    return {"n": len(error), "n_without_counts": n_empty, "n_doubtful": int(doubtful.sum()), **named}


def _where(
    adata: AnnData,
    groupby: str | None,
    coords: NDArray[np.floating],
    error: NDArray[np.float64],
    doubtful: NDArray[np.bool_],
) -> pd.DataFrame:
    """Doubtful cells by group, and in the inner and the outer half of the layout."""
    radius = np.linalg.norm(coords - np.nanmean(coords, axis=0), axis=1)
    half = np.where(radius <= np.nanmedian(radius), "inner half of the layout", "outer half of the layout")
    table = pd.DataFrame({"doubtful": doubtful, "error": error})
    groups = [pd.Series(half)] if groupby is None else [pd.Series(half), adata.obs[groupby].reset_index(drop=True)]
    parts = [table.groupby(group.astype(str)) for group in groups]
    rows = [
        pd.DataFrame(
            {
                "n": part.size(),
                "n_doubtful": part["doubtful"].sum(),
                "share_doubtful": part["doubtful"].mean(),
                "expected_error": part["error"].mean(),
            }
        )
        for part in parts
    ]
    return pd.concat(rows).rename_axis("cells")


def _controls(tissue: dict[str, Any]) -> pd.DataFrame:
    """What held-out slides reach, beside permuted cells or random candidates."""
    pairs = {
        "rank correlation of distances": ("distance_spearman", "permutation_spearman"),
        "recall of neighbours": ("recall", "recall_chance"),
    }
    rows = {name: [tissue[key] for key in keys] for name, keys in pairs.items() if keys[0] in tissue}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["held-out slides", "chance"])


def _summary(found: dict[str, Any]) -> list[str]:
    tissue, cells, genes = found["tissue"], found["cells"], found["genes"]
    said = []
    if tissue:
        verdict = "can be localised" if tissue["localisable"] else "cannot be localised: coordinates mean nothing"
        said.append(
            f"The tissue {verdict}. On held-out {tissue['held_out']}, the embedding explains {tissue['explained']:.0%} of the "
            f"variance of true positions."
        )
        if tissue.get("repeated"):
            said.append("Parts of the tissue look alike: a cell of one of them may be placed in another.")
    said += list(found["query"].get("message", []))
    if genes["missing"]:
        said.append(f"{genes['missing']} of the model's {genes['known']} genes are missing from the data.")
    if cells["n_without_counts"]:
        said.append(f"{cells['n_without_counts']} cells have no counts: their coordinates mean nothing.")
    share = cells["n_doubtful"] / max(cells["n"], 1)
    said.append(
        f"{cells['n_doubtful']} of {cells['n']} cells ({share:.0%}) are doubtful. The median expected error is "
        f"{cells['expected_error_50']:.2f} RMS radii of the tissue; at 1, nothing is known of a place."
    )
    return said
