"""Leave-one-slide-out: how well would a model fitted on the other slides have placed this one?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from tqdm.auto import tqdm

from ipar import baselines
from ipar._anndata import COORDS, UNCERTAINTY, check_distinct, check_slide_sizes, get_coords, get_slides, record
from ipar._expression import get_expression
from ipar._run import as_seed
from ipar.metrics import evaluate
from ipar.tl._fit import fit_ipalite
from ipar.tl._predict import predict_coords

if TYPE_CHECKING:
    from anndata import AnnData

_SLIDE, _SPATIAL = "slide", "spatial"
METHOD = "ipar"


@dataclass(frozen=True)
class _Fold:
    """What controls are given: the training slides, the expression of the one left out and, for chance, its outline."""

    x: sparse.csr_matrix
    coords: NDArray[np.float64]
    slides: NDArray[np.str_]
    query: sparse.csr_matrix
    truth: NDArray[np.float64]

    @property
    def known(self) -> tuple[Any, ...]:
        return self.x, self.coords, self.slides, self.query


Control = Callable[[_Fold, int], NDArray[Any]]

CONTROLS: dict[str, Control] = {
    "permuted": lambda fold, seed: baselines.permuted(fold.truth, random_state=seed),
    "pca_umap": lambda fold, seed: baselines.pca_umap(fold.query, random_state=seed),
    "pca_knn_regression": lambda fold, seed: baselines.pca_knn_regression(*fold.known, random_state=seed),
    "distance_embedding_mds": lambda fold, seed: baselines.distance_embedding_mds(*fold.known, random_state=seed),
}


def cross_validate(
    adata: AnnData,
    library_key: str,
    *,
    slides: Sequence[str] | None = None,
    controls: Sequence[str] | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    **fit_options: Any,
) -> pd.DataFrame:
    """Leave each slide out in turn, fit on the others, place it, and score it beside simple controls.

    What can be expected on a new section of this tissue, by this technology. Nothing of the slide left out but its
    expression reaches the fit, and results of earlier fits on ``adata`` are not read: every fold starts anew and costs
    as much as one :func:`ipar.tl.fit_ipalite`.

    Parameters
    ----------
    adata
        Slides, log-normalised, with coordinates: three at least, of at least 50 cells each.
    library_key
        Categorical column of ``obs`` that tells slides apart.
    slides
        Slides to leave out; every one in turn, if None. Each fold is fitted on all others, also those not named here.
    controls
        Methods of :mod:`ipar.baselines` by name: ``"permuted"`` (chance), ``"pca_umap"``, ``"pca_knn_regression"``,
        ``"distance_embedding_mds"``; all of them, if None. An empty list leaves them out.
    spatial_key
        Key of the coordinates in ``obsm``.
    layer, mask_var
        Expression that is read, by every method, see :func:`ipar.pp.embed`.
    random_state
        Seed of fits, predictions and controls. Scores draw alike for every method, so that differences are paired.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show a progress bar over slides and methods.
    fit_options
        Further arguments of :func:`ipar.tl.fit_ipalite`.

    Returns
    -------
    pandas.DataFrame
        One row a slide, method and metric: ``slide``, ``method`` (``"ipar"`` or a control), ``metric`` (of
        :func:`ipar.metrics.evaluate`), ``value``, and ``difference``, by how much ipar's value on the same slide is above
        this one. Apart from ``adata.uns`` nothing of ``adata`` changes; writes

    ``.uns["ipar"]["cross_validation"]``
        ``"table"`` with what is returned, and the slides, controls and seed.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable, there are fewer than three slides, or a slide or
        control is not known; the message names the remedy.

    Examples
    --------
    Mean of ipar's lead over every control, and its spread over slides::

        table = ipar.tl.cross_validate(adata, "slide")
        table.groupby(["metric", "method"])["difference"].agg(["mean", "std"]).loc["luna_spearman"]
    """
    random_state = as_seed(random_state)
    labels = get_slides(adata, library_key, minimum=3)
    check_slide_sizes(labels)
    check_distinct(get_coords(adata, spatial_key), labels)
    # as they are: centred together, the slide left out would reach the others' last digits
    coords = np.asarray(adata.obsm[spatial_key], dtype=np.float64)
    left_out = _chosen(slides, [str(name) for name in labels.categories], "slide")
    methods = _chosen(controls, list(CONTROLS), "control")
    expression = get_expression(adata, layer=layer, mask_var=mask_var)
    bare = _bare(expression.matrix, expression.genes, labels, coords)
    options = {"random_state": random_state, "device": device, "progress": False}
    scores: dict[tuple[str, str], dict[str, float]] = {}
    with tqdm(total=len(left_out) * (1 + len(methods)), desc="left out", unit="run", disable=not progress) as bar:
        for name in left_out:
            fold = _fold(bare, name)
            for method in (METHOD, *methods):
                bar.set_postfix_str(f"{name}: {method}")
                if method == METHOD:
                    placed, doubt = _place(bare, name, options, fit_options)
                else:
                    placed, doubt = CONTROLS[method](fold, random_state), None
                scores[name, method] = evaluate(fold.truth, placed, uncertainty=doubt)
                bar.update()
    table = _tidy(scores)
    record(adata)["cross_validation"] = {
        "table": table,
        "library_key": library_key,
        "slides": np.array(left_out, dtype=object),
        "controls": np.array(methods, dtype=object),
        "random_state": random_state,
    }
    return table.copy()


def _chosen(names: Sequence[str] | None, known: list[str], what: str) -> list[str]:
    """The names asked for, each once; all that are known, if None."""
    if names is None:
        return known
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(map(str, names)))
    unknown = [name for name in wanted if name not in known]
    if unknown or (not wanted and what == "slide"):
        msg = f"No {what} is called {unknown[0]!r}: choose among {known}." if unknown else "Name at least one slide."
        raise ValueError(msg)
    return wanted


def _bare(
    matrix: sparse.csr_matrix, genes: pd.Index, labels: pd.Categorical, coords: NDArray[np.float64]
) -> ad.AnnData:
    """Expression, slides and coordinates alone: earlier embeddings have seen the slides that are left out."""
    obs = pd.DataFrame({_SLIDE: pd.Categorical(labels.astype(str))}, index=[f"cell{i}" for i in range(len(labels))])
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=genes), obsm={_SPATIAL: coords})


def _fold(bare: ad.AnnData, name: str) -> _Fold:
    names = bare.obs[_SLIDE].astype(str).to_numpy()
    own = names == name
    coords = np.asarray(bare.obsm[_SPATIAL])
    return _Fold(bare.X[~own], coords[~own], names[~own], bare.X[own], coords[own])


def _place(
    bare: ad.AnnData, name: str, options: dict[str, Any], fit_options: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Coordinates of the slide left out and, where the model has them, expected errors."""
    own = bare.obs[_SLIDE] == name
    train, query = bare[~own].copy(), bare[own].copy()
    del query.obsm[_SPATIAL]
    model = fit_ipalite(train, _SLIDE, **fit_options, **options)
    predict_coords(query, model, **options)
    return query.obsm[COORDS], query.obs[UNCERTAINTY].to_numpy() if UNCERTAINTY in query.obs else None


def _tidy(scores: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    rows = [
        (slide, method, metric, value, scores[slide, METHOD][metric] - value)
        for (slide, method), found in scores.items()
        for metric, value in found.items()
    ]
    return pd.DataFrame(rows, columns=["slide", "method", "metric", "value", "difference"])
