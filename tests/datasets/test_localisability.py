"""One tissue can be localised and the other cannot: the reason why there are two."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from ipar import datasets


@pytest.fixture(scope="module")
def layered_map() -> ad.AnnData:
    return datasets.layered_tissue_dissociated(3000)


@pytest.fixture(scope="module")
def liver_map() -> ad.AnnData:
    return datasets.liver_lobules_dissociated(3000)


def median_row_spearman(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (rankdata(x, axis=1) for x in (a, b))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    return float(np.median((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))))


def score_unseen_slide(adata: ad.AnnData) -> dict[str, float]:
    """Distances on slide3 from regressions fitted on slide1 and slide2, each in its own frame; no alignment needed."""
    slide, coords = adata.obs["slide"].to_numpy(), adata.obsm["spatial"]
    expression = adata.X.toarray()
    for s in np.unique(slide):
        expression[slide == s] -= expression[slide == s].mean(axis=0)
    test = slide == "slide3"
    components = PCA(50, random_state=0).fit(expression[~test]).transform(expression)
    models = {"ridge": RidgeCV(np.logspace(-1, 4, 6)), "knn": KNeighborsRegressor(20)}
    predicted = {"pca": cdist(components[test], components[test])}
    for name, model in models.items():
        fits = [
            model.fit(components[slide == s], coords[slide == s]).predict(components[test])
            for s in ("slide1", "slide2")
        ]
        predicted[name] = sum(cdist(fit, fit) for fit in fits)
    truth = cdist(coords[test], coords[test])
    return {name: median_row_spearman(truth, distances) for name, distances in predicted.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_an_unseen_slide_of_layered_tissue_can_be_placed_but_not_trivially(seed: int):
    score = score_unseen_slide(datasets.layered_tissue(random_state=seed))
    assert 0.7 < score["ridge"] < 0.9
    assert score["knn"] < score["ridge"] - 0.03
    assert score["pca"] < 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_an_unseen_slide_of_liver_cannot_be_placed(seed: int):
    score = score_unseen_slide(datasets.liver_lobules(random_state=seed))
    assert max(abs(value) for value in score.values()) < 0.15


def smoothed(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """True origins and 3 principal components of the local average expression, which are the tissue's strongest patterns."""
    coords = cells.obsm["spatial_origin"]
    near = cKDTree(coords).query(coords, k=20)[1]
    local = cells.X.toarray()[near].mean(axis=1)
    components = PCA(3, random_state=0).fit_transform(local - local.mean(axis=0))
    return coords, components


def self_likeness(coords: np.ndarray, components: np.ndarray, transform: np.ndarray) -> float:
    """How well a rotation or reflection about (0, 0) maps tissue onto itself: overlap × correlation of expression."""
    distance, twin = cKDTree(coords).query(coords @ transform.T)
    spacing = np.median(cKDTree(coords).query(coords, k=2)[0][:, 1])
    landed = distance < 3 * spacing
    a, b = components[landed], components[twin[landed]]
    return float(landed.mean() * (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


MIRROR = np.diag([-1.0, 1.0])


def test_layered_tissue_has_no_symmetry(layered_map: ad.AnnData):
    coords, components = smoothed(layered_map)
    coords = coords - coords.mean(axis=0)
    assert self_likeness(coords, components, rotation(1)) > 0.9
    turns = [self_likeness(coords, components, rotation(a)) for a in range(45, 316, 15)]
    mirrors = [self_likeness(coords, components, rotation(a) @ MIRROR) for a in range(0, 360, 10)]
    assert max(turns + mirrors) < 0.45


def test_liver_turned_by_sixty_degrees_about_a_vein_or_mirrored_is_the_same_liver(liver_map: ad.AnnData):
    coords, components = smoothed(liver_map)
    symmetric = [
        self_likeness(coords, components, rotation(a) @ m) for a in range(0, 360, 60) for m in (np.eye(2), MIRROR)
    ]
    between = [self_likeness(coords, components, rotation(a)) for a in (30, 90, 150)]
    assert min(symmetric) > 0.6
    assert max(between) < 0.2


@pytest.mark.parametrize(("name", "repeats"), [("layered_map", False), ("liver_map", True)])
def test_cells_that_look_alike_are_close_unless_tissue_repeats(
    name: str, repeats: bool, request: pytest.FixtureRequest
):
    coords, components = smoothed(request.getfixturevalue(name))
    far = cdist(coords, coords)
    alike = cdist(components, components)
    # beyond the neighbourhood whose average is shared, so that the smoothing itself decides nothing
    alike[far < 2 * np.sort(far, axis=1)[:, 20:21]] = np.inf
    distance = far[np.arange(len(far)), alike.argmin(axis=1)]
    ratio = np.median(distance) / np.median(far)
    assert ratio > 0.6 if repeats else ratio < 0.45
