from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist
from sklearn.model_selection import KFold

from benchmarks import run
from benchmarks.methods import controls, frames, networks
from benchmarks.methods.labels import LABELS
from ipar import baselines
from ipar.metrics import luna_spearman


def unit(coords):
    centred = coords - coords.mean(axis=0)
    return (centred / np.sqrt((centred**2).sum(axis=1).mean())).astype(np.float32)


@pytest.fixture
def short(monkeypatch):
    """Networks trained for a moment: these slides are easy."""
    regression, transformer = (
        networks.Regression(n_steps=80),
        networks.SetTransformerConfig(n_steps=60, n_components=20),
    )
    monkeypatch.setattr(networks, "Regression", lambda: regression)
    monkeypatch.setattr(networks, "SetTransformerConfig", lambda: transformer)


@pytest.mark.parametrize("name", sorted(set(controls.CONTROLS) - {"pca_umap"}))
def test_control_places_an_unseen_slide(slides, short, name):
    layout = controls.CONTROLS[name](slides.train, slides.query, 0)
    assert layout.shape == slides.truth.shape
    assert np.isfinite(layout).all()
    assert luna_spearman(slides.truth, layout) > 0.6


@pytest.mark.parametrize("name", ["distance_embedding", "common_frame_mlp", "set_transformer", "ridge"])
def test_the_level_of_a_slide_tells_only_where_slides_are_not_centred(slides, short, monkeypatch, name):
    monkeypatch.setattr(baselines, "distance_embedding_mds", partial(baselines.distance_embedding_mds, n_steps=20))
    raised = slides.train.copy()
    raised.X = raised.X.toarray() if sparse.issparse(raised.X) else raised.X.copy()
    raised.X[(raised.obs["slide"] == "MOB2").to_numpy()] += 1  # all genes of one slide
    for control, told in ((controls.CONTROLS[name], False), (controls.CONTROLS[f"{name}_uncentred"], True)):
        before, after = (pdist(control(train, slides.query, 0)) for train in (slides.train, raised))
        assert (np.corrcoef(before, after)[0, 1] < 0.999) == told


def test_references_read_the_truth_they_are_given(slides, short):
    assert luna_spearman(slides.truth, controls.within_slide_mlp(slides.query, slides.truth, 0)) > 0.6
    assert abs(luna_spearman(slides.truth, controls.permuted(slides.query, slides.truth, 0))) < 0.3


def test_no_cell_is_placed_by_its_own_position_within_the_slide(slides, monkeypatch):
    regression = networks.Regression(n_steps=30)
    monkeypatch.setattr(networks, "Regression", lambda: regression)
    fold = next(iter(KFold(5, shuffle=True, random_state=0).split(slides.truth)))[1]
    truth = slides.truth.copy()
    truth[fold] = truth[fold[::-1]]  # same centre and radius: only who is where has changed
    before, after = (controls.within_slide_mlp(slides.query, coords, 0) for coords in (slides.truth, truth))
    np.testing.assert_allclose(after[fold], before[fold], atol=1e-4)
    rest = np.setdiff1d(np.arange(len(truth)), fold)
    assert np.abs(after[rest] - before[rest]).max() > 1e-3


def test_centroids_need_labels(slides):
    query = slides.query.copy()
    del query.obs["cell_type"]
    with pytest.raises(controls.NotApplicableError, match="cell-type"):
        controls.cell_type_centroids(slides.train, query, 0)


def test_every_control_has_a_label():
    assert set(LABELS) == {*run.PLACE, *controls.CONTROLS, *controls.WITH_TRUTH}


@pytest.fixture
def planted():
    """Three slides of one tissue whose features are linear in a place, and frames of their own."""
    rng = np.random.default_rng(0)
    place = rng.uniform(-1, 1, (300, 2)) * [1.7, 1.0] + [0.2, 0] * rng.uniform(size=(300, 1))
    x = (place @ rng.normal(size=(2, 12)) + 0.3 * rng.normal(size=(300, 12))).astype(np.float32)
    rows = [np.arange(100 * i, 100 * (i + 1)) for i in range(3)]
    coords = np.empty((300, 2), dtype=np.float32)
    common = np.empty((300, 2), dtype=np.float32)
    for i, cells in enumerate(rows):
        x[cells] -= x[cells].mean(axis=0)
        common[cells] = unit(place[cells])
        turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
        coords[cells] = common[cells] @ (turn if i != 1 else turn * [1, -1])
    return x, coords, rows, common


def test_common_frame_finds_planted_turns_and_mirrors(planted):
    x, coords, rows, common = planted
    found = frames.common_frame(x, coords, rows)
    left, _, right = np.linalg.svd(common.T @ found)
    turned = common @ (left @ right)  # the frame as a whole is free
    assert np.sqrt(((turned - found) ** 2).sum(axis=1).mean()) < 0.15
    for cells in rows:  # turned, never deformed
        np.testing.assert_allclose(pdist(found[cells]), pdist(coords[cells]), atol=1e-4)


def test_common_frame_of_one_slide_is_its_own(planted):
    x, coords, rows, _ = planted
    np.testing.assert_array_equal(frames.common_frame(x[rows[0]], coords[rows[0]], [rows[0]]), coords[rows[0]])


def test_labels_align_slides(planted):
    _, coords, rows, common = planted
    labels = np.char.add(*(np.char.mod("%d", np.floor(3 * column)) for column in common.T))
    found = frames.align_by_labels(coords, labels, rows)
    np.testing.assert_array_equal(found[rows[0]], coords[rows[0]])
    assert np.corrcoef(pdist(found), pdist(common))[0, 1] > 0.97 > np.corrcoef(pdist(coords), pdist(common))[0, 1]


def test_set_transformer_is_equivariant_and_gauge_fixed():
    torch.manual_seed(0)
    network = networks.SetTransformer(6, networks.SetTransformerConfig()).eval()
    tokens, order = torch.randn(2, 30, 6), torch.randperm(30)
    with torch.no_grad():
        layout, shuffled = network(tokens), network(tokens[:, order])
    torch.testing.assert_close(shuffled, layout[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layout.mean(dim=1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(layout.square().sum(-1).mean(-1), torch.ones(2))


def test_set_transformer_is_as_designed():
    config = networks.SetTransformerConfig()
    assert (config.n_layers, config.width) == (4, 128)
    network = networks.SetTransformer(50, replace(config))
    assert len(network.layers.layers) == 4
    assert network.read.out_features == 128
