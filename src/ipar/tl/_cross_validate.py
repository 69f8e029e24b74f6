"""Leave-one-slide-out cross-validation on AnnData."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ipar import baselines
from ipar._anndata import (
    COORDS,
    UNCERTAINTY,
    Source,
    check_distinct,
    check_slide_sizes,
    get_coords,
    get_slides,
    raw_coords,
    record,
)
from ipar._docs import shared_docs
from ipar._expression import get_expression
from ipar._public import public
from ipar._run import Device
from ipar._seeds import as_seed
from ipar.metrics import evaluate
from ipar.tl._fit import fit_ipalite
from ipar.tl._predict import predict_coords

if TYPE_CHECKING:
    from anndata import AnnData

_SLIDE, _SPATIAL = "slide", "spatial"
METHOD = "ipar"


@dataclass(frozen=True)
class _Fold:
    """Training slides, the held-out slide without its coordinates, and these coordinates."""

    train: ad.AnnData
    query: ad.AnnData
    truth: NDArray[np.float64]

    @classmethod
    def of(cls, bare: ad.AnnData, name: str) -> _Fold:
        own = bare.obs[_SLIDE] == name
        train, query = bare[~own].copy(), bare[own].copy()
        return cls(train, query, query.obsm.pop(_SPATIAL))

    @property
    def known(self) -> tuple[Any, ...]:
        """What a control reads."""
        train = self.train
        return train.X, train.obsm[_SPATIAL], train.obs[_SLIDE].astype(str).to_numpy(), self.query.X


CONTROLS: dict[str, Callable[[_Fold, int], NDArray[Any]]] = {
    "permuted": lambda fold, seed: baselines.permuted(fold.truth, random_state=seed),
    "pca_umap": lambda fold, seed: baselines.pca_umap(fold.query.X, random_state=seed),
    "pca_knn_regression": lambda fold, seed: baselines.pca_knn_regression(*fold.known, random_state=seed),
    "distance_embedding_mds": lambda fold, seed: baselines.distance_embedding_mds(*fold.known, random_state=seed),
}


@public
@shared_docs
def cross_validate(
    adata: AnnData,
    library_key: str,
    *,
    slides: Sequence[str] | None = None,
    controls: Sequence[str] | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    mask_var: str | None = None,
    gene_key: str | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
    **fit_options: Any,
) -> pd.DataFrame:
    """Hold out each slide in turn, fit on the others, place it, and score it beside simple controls.

    This shows what to expect on a new slide of the same tissue and technology. Only the expression of the held-out slide
    is used, and earlier results in `adata` are not read. Each fold costs as much as one :func:`fit_ipalite`.

    Parameters
    ----------
    adata
        At least three slides of at least 50 cells, log-normalised, with coordinates.
    %(slides)s
    slides
        Slides to hold out (default: every slide in turn). Each fold is fitted on all other slides.
    controls
        Methods of :mod:`ipar.baselines` to compare with: ``"permuted"`` (chance), ``"pca_umap"``, ``"pca_knn_regression"``,
        ``"distance_embedding_mds"`` (default: all). An empty list means none.
    %(training)s
    fit_options
        Further arguments of :func:`fit_ipalite`.

    Returns
    -------
    pandas.DataFrame
        One row per slide, method and metric: ``slide``, ``method`` (``"ipar"`` or a control), ``metric`` (see
        :func:`ipar.metrics.evaluate`), ``value``, and ``difference``, the value of ipar on the same slide minus this value.
        Also written to

    ``.uns["ipar"]["cross_validation"]``
        ``"table"``, and the slides, controls and seed.

    Raises
    ------
    KeyError, TypeError, ValueError
        If slides, coordinates or expression are missing or not usable, or a slide or control does not exist.

    Examples
    --------
    Mean lead of ipar over every control, and its spread over slides::

        table = ipar.tl.cross_validate(adata, "slide")
        table.groupby(["metric", "method"])["difference"].agg(["mean", "std"]).loc["luna_spearman"]
    """
    random_state = as_seed(random_state)
    labels = get_slides(adata, library_key, minimum=3)
    bare = _bare(adata, labels, Source(library_key, spatial_key, layer, mask_var, gene_key=gene_key))
    held_out = _chosen(slides, [str(name) for name in labels.categories], "slide")
    methods = _chosen(controls, list(CONTROLS), "control")
    options = {"random_state": random_state, "device": device, "progress": False}
    scores: dict[tuple[str, str], dict[str, float]] = {}
    with tqdm(total=len(held_out) * (1 + len(methods)), desc="held out", unit="run", disable=not progress) as bar:
        for name in held_out:
            fold = _Fold.of(bare, name)
            for method in (METHOD, *methods):
                bar.set_postfix_str(f"{name}: {method}")
                own = method == METHOD
                found = _place(fold, options, fit_options) if own else (CONTROLS[method](fold, random_state), None)
                scores[name, method] = evaluate(fold.truth, found[0], uncertainty=found[1])
                bar.update()
    table = _tidy(scores)
    record(adata)["cross_validation"] = {
        "table": table,
        "library_key": library_key,
        "slides": np.array(held_out, dtype=object),
        "controls": np.array(methods, dtype=object),
        "random_state": random_state,
    }
    return table.copy()


def _chosen(names: Sequence[str] | None, known: list[str], what: str) -> list[str]:
    """The names asked for, each once, or all that are known."""
    if names is None:
        return known
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(map(str, names)))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        msg = f"There is no {what} {unknown[0]!r}, found {known}: name some of these."
        raise ValueError(msg)
    if not wanted and what == "slide":
        msg = "slides must name at least one slide, found none: name some, or leave it out for all."
        raise ValueError(msg)
    return wanted


def _bare(adata: AnnData, labels: pd.Categorical, source: Source) -> ad.AnnData:
    """Expression, slides and coordinates alone: earlier embeddings have seen the held-out slides."""
    check_slide_sizes(labels)
    check_distinct(get_coords(adata, source.spatial_key), labels)
    keys: dict[str, Any] = {"layer": source.layer, "mask_var": source.mask_var, "gene_key": source.gene_key}
    expression = get_expression(adata, labels=labels, **keys)
    obs = pd.DataFrame({_SLIDE: pd.Categorical(labels.astype(str))}, index=[f"cell{i}" for i in range(len(labels))])
    # not centred: the held-out slide would change the last digits of the others
    coords = raw_coords(adata, source.spatial_key)
    return ad.AnnData(expression.matrix, obs=obs, var=pd.DataFrame(index=expression.genes), obsm={_SPATIAL: coords})


def _place(
    fold: _Fold, options: dict[str, Any], fit_options: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Coordinates of the held-out slide and, if the model has them, expected errors."""
    model = fit_ipalite(fold.train.copy(), _SLIDE, **fit_options, **options)
    query = fold.query.copy()
    predict_coords(query, model, **options)
    return query.obsm[COORDS], query.obs[UNCERTAINTY].to_numpy() if UNCERTAINTY in query.obs else None


def _tidy(scores: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    rows = [
        (slide, method, metric, value, scores[slide, METHOD][metric] - value)
        for (slide, method), found in scores.items()
        for metric, value in found.items()
    ]
    return pd.DataFrame(rows, columns=["slide", "method", "metric", "value", "difference"])
