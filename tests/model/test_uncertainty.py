from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

import ipar
from ipar.model import IGA, UncertaintyHead
from ipar.model._io import model_from_state, model_state
from ipar.model._uncertainty import head_input, joint_sign, spread_of, trouble_signs


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    place = rng.uniform([-3, -2], [3, 2], size=(150, 2))
    return np.c_[place, 0.3 * rng.normal(size=(150, 6))].astype(np.float32)


@pytest.fixture
def head(cells):
    rng = np.random.default_rng(1)
    return UncertaintyHead(
        centre=cells.mean(0).astype(float),
        axes=rng.normal(size=(8, 3)),
        landmarks=rng.normal(size=(5, 11)),
        weights=rng.normal(size=5),
        intercept=0.2,
        gamma=0.05,
        knots=np.array([[-1.0, 0.0, 2.0], [0.1, 0.4, 0.5]]),
    )


def test_by_the_definition(cells, head):
    z = head_input(cells, cells[:, :4], head.centre, head.axes)
    expected = []
    for row in z:
        kernel = [np.exp(-0.05 * sum((row - mark) ** 2)) for mark in head.landmarks]
        value = 0.2 + sum(k * w for k, w in zip(kernel, head.weights, strict=True))
        expected.append(np.interp(value, [-1.0, 0.0, 2.0], [0.1, 0.4, 0.5]))
    found = head.expected_error(cells, cells[:, :4])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 0


def test_samples_count_as_much_as_the_head(cells, head):
    rng = np.random.default_rng(4)
    spread = rng.gamma(2.0, size=150).astype(np.float32)
    joint = replace(head, joint=np.array([[-6.0, 6.0], [0.0, 1.2]]))
    found, alone = joint.expected_error(cells, cells[:, :4], spread), joint.expected_error(cells, cells[:, :4])
    assert found.dtype == np.float32
    assert np.array_equal(alone, head.expected_error(cells, cells[:, :4], spread))  # each needs the other
    by_head, by_spread = (spearmanr(found, sign).statistic for sign in (head.value(cells, cells[:, :4]), spread))
    assert by_head == pytest.approx(by_spread, abs=0.1)
    assert by_head > 0.5
    # ranks alone count, and where both agree nothing changes
    np.testing.assert_allclose(joint.expected_error(cells, cells[:, :4], spread**3), found, rtol=1e-5)
    both = joint_sign(head.value(cells, cells[:, :4]), head.value(cells, cells[:, :4]))
    assert spearmanr(both, head.value(cells, cells[:, :4])).statistic == pytest.approx(1.0)


def test_spread_is_the_distance_of_places_from_their_mean(generated, cells):
    flow = generated.model
    h = np.random.default_rng(5).normal(size=(40, flow.net.config.d_input)).astype(np.float32)
    h = h[np.lexsort(h.T[:2])]
    places = flow.sample(h, 16, n_steps=5, random_state=3).coords  # (S, n, 2)
    expected = [
        np.sqrt(np.mean([np.sum((x - place.mean(0)) ** 2) for x in place])) for place in places.transpose(1, 0, 2)
    ]
    found = spread_of(flow, h, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    mixed = np.random.default_rng(6).permutation(40)
    assert np.array_equal(spread_of(flow, h[mixed], 3), found[mixed])


def test_of_very_many_cells_some_are_drawn_and_the_others_are_like_those_near_them(generated, monkeypatch):
    flow = generated.model
    rng = np.random.default_rng(7)
    middles = rng.normal(size=(3, flow.net.config.d_input))
    h = (middles.repeat(60, 0) + 0.05 * rng.normal(size=(180, flow.net.config.d_input))).astype(np.float32)
    drawn = []
    sample = IGA.sample
    monkeypatch.setattr(IGA, "sample", lambda self, h, *args, **kw: drawn.append(h) or sample(self, h, *args, **kw))
    found = spread_of(flow, h, most_drawn=90)
    assert [len(part) for part in drawn] == [90]
    own = sample(flow, drawn[0], 16, n_steps=5).uncertainty
    index = [int(np.flatnonzero((h == row).all(1))[0]) for row in drawn[0]]
    assert len(set(index)) == 90
    np.testing.assert_allclose(found[index], own, rtol=0.02)  # who was drawn keeps its own
    for kind in range(3):
        cells = np.arange(60 * kind, 60 * kind + 60)
        others, known = np.setdiff1d(cells, index), own[np.isin(index, cells)]
        assert found[others].min() > known.min()
        assert found[others].max() < known.max()
    mixed = rng.permutation(180)
    np.testing.assert_allclose(spread_of(flow, h[mixed], most_drawn=90), found[mixed], rtol=1e-3)


def test_signs_know_nothing_of_order_size_or_turn(cells):
    far = cells[:, :4]
    signs = trouble_signs(cells, far)
    assert signs.shape == (150, 8)
    np.testing.assert_allclose(signs.mean(0), 0, atol=0.05)
    order = np.random.default_rng(2).permutation(150)
    np.testing.assert_allclose(trouble_signs(cells[order], far[order]), signs[order], atol=0.1)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0].astype(np.float32)
    np.testing.assert_allclose(trouble_signs(5 * cells, 5 * far @ turn), signs, atol=0.1)


def test_a_cell_whose_neighbours_are_scattered_stands_out(cells):
    odd = cells.copy()
    odd[0, :2] = 0  # in the middle of the layout, while the rest of its embedding is like that of nobody
    odd[0, 4:] = 9
    signs = trouble_signs(odd, odd[:, :4])
    spread, nearest = signs[0, 0], signs[0, 2]
    assert spread > 1
    assert nearest > 2


@pytest.mark.parametrize("n", [4, 5, 16])
def test_few_cells(cells, n):
    assert np.isfinite(trouble_signs(cells[:n], cells[:n, :4])).all()


def test_cells_of_one_embedding_are_alike():
    same = np.ones((20, 8), dtype=np.float32)
    signs = trouble_signs(same, same[:, :4])
    assert np.isfinite(signs).all()


def test_models_keep_it(model, query):
    assert isinstance(model.uncertainty, UncertaintyHead)
    back = model_from_state(*model.state())
    h = query.obsm["X_ipar_embed"] = model.encoder.transform(
        query.X, query.var_names, ipar._anndata.get_slides(query, "slide")
    )
    assert np.array_equal(back.expected_error(h), model.expected_error(h))
    assert spearmanr(model.expected_error(h), model.expected_error(h[::-1])[::-1]).statistic > 0.99


def test_models_with_a_flow_read_its_samples(model, generated, query):
    matrix, slides = csr_matrix(query.X), ipar._anndata.get_slides(query, "slide")
    h, far, _ = model.encoder.views(matrix, query.var_names, slides)
    flow = replace(generated.model, encoder=model.encoder)
    alone = replace(model, flow=flow)  # of a head that knows of none
    assert np.array_equal(alone.expected_error(h, far), model.expected_error(h, far))
    joint = np.array([[-3.0, 0.0, 3.0], [0.1, 0.3, 0.9]])
    both = replace(alone, uncertainty=replace(model.uncertainty, joint=joint))
    sign = joint_sign(model.uncertainty.value(h, far), spread_of(flow, h, 2))
    found = both.expected_error(h, far, random_state=2)
    np.testing.assert_allclose(found, np.interp(sign, *joint), rtol=1e-5)
    back = model_from_state(*both.state())
    assert np.array_equal(back.expected_error(h, far, random_state=2), found)
    assert back.uncertainty.joint.shape == (2, 3)
    assert np.array_equal(replace(both, flow=None).expected_error(h, far), model.expected_error(h, far))
    ipar.tl.predict_coords(query, both, random_state=2, progress=False)
    assert np.array_equal(query.obs["ipar_uncertainty"], found)


def test_models_without_it_are_read(model, query, tmp_path):
    bare = replace(model, uncertainty=None)
    bare.save(tmp_path / "bare")
    assert ipar.load(tmp_path / "bare").uncertainty is None
    config, arrays = bare.state()
    del config["uncertainty"]  # as models were written before there was one
    older = model_from_state(config, arrays)
    query.obs["ipar_uncertainty"] = 1.0
    ipar.tl.predict_coords(query, older, progress=False)
    assert "ipar_uncertainty" not in query.obs  # it spoke of other coordinates
