"""The controls that every result stands beside.

A control is ``control(train, query, random_state) -> (n_query, 2)``. The query holds expression, and cell-type labels
where the data have them; the runner takes everything else away (see :func:`benchmarks.tasks.tasks.split`), so that no control can read a
coordinate of the slide it is scored on. The two exceptions, chance and the within-slide reference, are apart in
``WITH_TRUTH`` and get the coordinates as an argument of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from benchmarks.methods import frames, networks
from benchmarks.methods.arrays import dense, reference_of, unit_radius
from ipar import baselines
from ipar.baselines.inputs import FloatArray, Reference, principal_components

Control = Callable[[ad.AnnData, ad.AnnData, int], NDArray[np.floating]]
WithTruth = Callable[[ad.AnnData, NDArray[np.float64], int], NDArray[np.floating]]

_N_COMPONENTS = 50
_N_FOLDS = 5
PENALTIES = np.logspace(-1, 6, 15)
_JITTER = 0.05  # RMS radii: cells of one type must not coincide, or their neighbours are a matter of row order


class NotApplicableError(ValueError):
    """The data lack what a control needs."""


def pca_umap(train: ad.AnnData, query: ad.AnnData, random_state: int) -> FloatArray:
    """UMAP of the query's own principal components: no spatial data; the one to beat in local metrics."""
    return baselines.pca_umap(query.X, random_state=random_state)


def pca_knn(train: ad.AnnData, query: ad.AnnData, random_state: int) -> FloatArray:
    """Mean position of the nearest cells on the training slide that places the other training slides best."""
    return baselines.pca_knn_regression(*_arrays(train, query), random_state=random_state)


def distance_embedding(
    train: ad.AnnData, query: ad.AnnData, random_state: int, *, centre_slides: bool = True
) -> FloatArray:
    """Embedding whose distances match tissue distances, then classical MDS."""
    return baselines.distance_embedding_mds(
        *_arrays(train, query), centre_slides=centre_slides, random_state=random_state
    )


def common_frame_mlp(
    train: ad.AnnData, query: ad.AnnData, random_state: int, *, centre_slides: bool = True
) -> FloatArray:
    """Training slides turned into one frame, coordinates regressed from genes."""
    data, coords, _, _ = _in_one_frame(train, query, random_state, centre_slides)
    recipe = networks.Regression().for_cells(len(data.x))
    return networks.regress_coords(data.x, coords, data.query, seed=random_state, recipe=recipe)


def ridge_to_frame(
    train: ad.AnnData, query: ad.AnnData, random_state: int, *, centre_slides: bool = True
) -> FloatArray:
    """Training slides turned into one frame, coordinates linear in principal components; the penalty by left-out cells."""
    _, coords, components, unseen = _in_one_frame(train, query, random_state, centre_slides)
    placed: FloatArray = RidgeCV(PENALTIES).fit(components, coords).predict(unseen)
    return placed


def set_transformer(
    train: ad.AnnData, query: ad.AnnData, random_state: int, *, centre_slides: bool = True
) -> FloatArray:
    """Full attention over principal-component tokens: 4 layers, 128 wide, pairwise-distance loss."""
    data = reference_of(train, query, centre_slides=centre_slides)
    config = networks.SetTransformerConfig()
    x, unseen = principal_components(data.x, data.query, config.n_components, seed=random_state)
    return networks.fit_set_transformer(x, data.coords, data.rows, unseen, seed=random_state, config=config)


def cell_type_centroids(train: ad.AnnData, query: ad.AnnData, random_state: int) -> FloatArray:
    """Every cell at its type's mean position, the training slides aligned by their types."""
    if "cell_type" not in query.obs or "cell_type" not in train.obs:
        msg = "the slides have no cell-type labels"
        raise NotApplicableError(msg)
    data = reference_of(train, query)
    known, asked = (slides.obs["cell_type"].astype(str).to_numpy() for slides in (train, query))
    coords = frames.align_by_labels(data.coords, known, data.rows)
    centroids = frames.label_centroids(coords, known)
    placed = np.array([centroids.get(name, coords.mean(axis=0)) for name in asked])
    jitter = np.random.default_rng(random_state).normal(scale=_JITTER, size=placed.shape)
    centred: FloatArray = (placed + jitter).astype(np.float32)
    return centred


def permuted(query: ad.AnnData, truth: NDArray[np.float64], random_state: int) -> NDArray[np.float64]:
    """The true positions dealt out at random: chance, on this tissue's own outline."""
    return baselines.permuted(truth, random_state=random_state)


def within_slide_mlp(query: ad.AnnData, truth: NDArray[np.float64], random_state: int) -> FloatArray:
    """Coordinates regressed from genes within the query slide, 5-fold: a reference that reads the truth, no control."""
    x, coords = dense(query), unit_radius(truth)
    x -= x.mean(axis=0)
    placed = np.empty_like(coords)
    for train, test in KFold(_N_FOLDS, shuffle=True, random_state=random_state).split(x):
        placed[test] = networks.regress_coords(x[train], coords[train], x[test], seed=random_state)
    return placed


CONTROLS: dict[str, Control] = {
    "pca_umap": pca_umap,
    "pca_knn": pca_knn,
    "distance_embedding": distance_embedding,
    "common_frame_mlp": common_frame_mlp,
    "ridge": ridge_to_frame,
    "cell_type_centroids": cell_type_centroids,
    "set_transformer": set_transformer,
    "distance_embedding_uncentred": partial(distance_embedding, centre_slides=False),
    "common_frame_mlp_uncentred": partial(common_frame_mlp, centre_slides=False),
    "ridge_uncentred": partial(ridge_to_frame, centre_slides=False),
    "set_transformer_uncentred": partial(set_transformer, centre_slides=False),
}
WITH_TRUTH: dict[str, WithTruth] = {"permuted": permuted, "within_slide_mlp": within_slide_mlp}


def _in_one_frame(
    train: ad.AnnData, query: ad.AnnData, random_state: int, centre_slides: bool
) -> tuple[Reference, FloatArray, FloatArray, FloatArray]:
    """The data, training coordinates turned into one frame, and components of training cells and of the query."""
    data = reference_of(train, query, centre_slides=centre_slides)
    components, unseen = principal_components(data.x, data.query, _N_COMPONENTS, seed=random_state, power=0.0)
    return data, frames.common_frame(components, data.coords, data.rows), components, unseen


def _arrays(
    train: ad.AnnData, query: ad.AnnData
) -> tuple[FloatArray, NDArray[np.float64], NDArray[np.str_], FloatArray]:
    return dense(train), train.obsm["spatial"], train.obs["slide"].astype(str).to_numpy(), dense(query)
