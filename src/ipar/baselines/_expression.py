"""Baselines without a network: chance, UMAP of the query, and regression onto a training slide."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from ipar._public import public
from ipar._seeds import as_rng
from ipar._settings import forks
from ipar.baselines.inputs import FloatArray, Reference, as_coords, as_expression, as_reference, fit_pca, sklearn_seed


@public
def permuted(coords: ArrayLike, random_state: int | np.random.Generator | None = 0) -> NDArray[np.float64]:
    """Permute true positions over cells: the score of chance on the outline of the tissue.

    Parameters
    ----------
    coords
        True positions, shape (n_cells, 2).
    random_state
        Seed or generator of the permutation.

    Returns
    -------
    The same positions in random order, shape (n_cells, 2).
    """
    return as_rng(random_state).permutation(as_coords(coords, "coords"))


@public
def pca_umap(
    query_x: Any,
    *,
    n_components: int = 50,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    random_state: int | np.random.Generator | None = 0,
) -> FloatArray:
    """UMAP of the principal components of the query slide, without any spatial data.

    Parameters
    ----------
    query_x
        Log-normalised expression of one slide, dense or sparse, shape (n_cells, n_genes).
    n_components
        Number of principal components, at most that of cells or genes.
    n_neighbors, min_dist
        Parameters of UMAP, at its defaults.
    random_state
        Seed or generator.

    Returns
    -------
    Layout, shape (n_cells, 2), float32, in the units of UMAP.

    References
    ----------
    McInnes, Healy and Melville, arXiv:1802.03426 (2018).
    """
    x = as_expression(query_x, "query_x")
    if len(x) < 4:
        msg = f"`query_x` must hold at least four cells for a UMAP, found {len(x)}."
        raise ValueError(msg)
    seed = sklearn_seed(random_state)
    if forks.forked:
        msg = (
            "UMAP cannot run in a process that was forked from one that has worked with ipar, since numba ends such processes: "
            "start processes with multiprocessing.get_context('spawn'), or with joblib."
        )
        raise RuntimeError(msg)
    umap = importlib.import_module("umap")  # takes seconds
    # the spectral initialisation of UMAP fails on very few cells
    start = "spectral" if len(x) > n_neighbors else "pca"
    reducer = umap.UMAP(
        n_neighbors=min(n_neighbors, len(x) - 1), min_dist=min_dist, init=start, random_state=seed, n_jobs=1
    )
    layout: FloatArray = np.asarray(
        reducer.fit_transform(fit_pca(x, n_components, seed).transform(x)), dtype=np.float32
    )
    return layout


@public
def pca_knn_regression(
    train_x: Any,
    train_coords: ArrayLike,
    train_slides: ArrayLike,
    query_x: Any,
    *,
    n_components: int = 50,
    n_neighbors: int = 20,
    reference: str | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> FloatArray:
    """Place each query cell at the mean position of its nearest cells on one training slide.

    Cells are compared by principal components of the training slides. Only one slide is used because slides share no frame.

    Parameters
    ----------
    train_x
        Log-normalised expression of the training slides, dense or sparse, shape (n_train, n_genes).
    train_coords
        Positions of the training cells, shape (n_train, 2), each slide in any frame.
    train_slides
        Slides of the training cells, shape (n_train,).
    query_x
        Expression of the query slide, same genes, shape (n_query, n_genes).
    n_components
        Number of principal components.
    n_neighbors
        Number of nearest cells to average.
    reference
        Slide to regress onto. By default the one that places the other training slides best, by the mean Pearson
        correlation of pairwise distances.
    random_state
        Seed or generator.

    Returns
    -------
    Positions in the gauge-fixed frame of the reference slide (centred, unit RMS radius), shape (n_query, 2), float32.
    """
    data = as_reference(train_x, train_coords, train_slides, query_x)
    rng = as_rng(random_state)
    pca = fit_pca(data.x, n_components, sklearn_seed(rng))
    train, query = pca.transform(data.x), pca.transform(data.query)
    if reference is None:
        chosen = _best_reference(data, train, n_neighbors, rng)
    else:
        names = np.unique(np.asarray(train_slides).astype(str)).tolist()
        if reference not in names:
            msg = f"no training slide is called {reference!r}; pass one of {names} as reference."
            raise ValueError(msg)
        chosen = names.index(reference)
    return _regress(train, data.coords, data.rows[chosen], query, n_neighbors)


def _regress(
    train: FloatArray, coords: FloatArray, rows: NDArray[np.intp], query: FloatArray, n_neighbors: int
) -> FloatArray:
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(rows))).fit(train[rows])
    nearest = search.kneighbors(query, return_distance=False)
    placed: FloatArray = coords[rows][nearest].mean(axis=1)
    return placed


def _best_reference(
    data: Reference, train: FloatArray, n_neighbors: int, rng: np.random.Generator, max_cells: int = 500
) -> int:
    """Index of the slide onto which up to `max_cells` cells of each other slide are placed best."""
    slides = data.rows
    if len(slides) == 1:
        return 0
    some = [rng.choice(rows, size=min(max_cells, len(rows)), replace=False) for rows in slides]
    scores = [
        np.mean(
            [
                _distance_correlation(_regress(train, data.coords, rows, train[other], n_neighbors), data.coords[other])
                for j, other in enumerate(some)
                if j != i
            ]
        )
        for i, rows in enumerate(slides)
    ]
    return int(np.argmax(scores))


def _distance_correlation(a: FloatArray, b: FloatArray) -> float:
    first, second = pdist(a), pdist(b)
    if first.std() == 0 or second.std() == 0:  # all cells in one place
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
