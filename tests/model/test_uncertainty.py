from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

import ipar
from ipar._run import Run
from ipar.model import Features, IPALite
from ipar.model.flow import Flow
from ipar.model.uncertainty import UncertaintyHead, head_input, joint_sign, spread_of, trouble_signs


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    place = rng.uniform([-3, -2], [3, 2], size=(150, 2))
    return np.c_[place, 0.3 * rng.normal(size=(150, 6))].astype(np.float32)


def known(cells):
    return Features(cells, cells[:, :4])


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
    z = head_input(known(cells), head.centre, head.axes)
    expected = []
    for row in z:
        kernel = [np.exp(-0.05 * sum((row - mark) ** 2)) for mark in head.landmarks]
        value = 0.2 + sum(k * w for k, w in zip(kernel, head.weights, strict=True))
        expected.append(np.interp(value, [-1.0, 0.0, 2.0], [0.1, 0.4, 0.5]))
    found = head.expected_error(known(cells))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 0


def test_samples_count_as_much_as_the_head(cells, head):
    rng = np.random.default_rng(4)
    spread = rng.gamma(2.0, size=150).astype(np.float32)
    joint = replace(head, joint=np.array([[-6.0, 6.0], [0.0, 1.2]]))
    found, alone = joint.expected_error(known(cells), spread), joint.expected_error(known(cells))
    assert found.dtype == np.float32
    assert np.array_equal(alone, head.expected_error(known(cells), spread))  # each needs the other
    by_head, by_spread = (spearmanr(found, sign).statistic for sign in (head.value(known(cells)), spread))
    assert by_head == pytest.approx(by_spread, abs=0.1)
    assert by_head > 0.5
    # ranks alone count, and where both agree nothing changes
    np.testing.assert_allclose(joint.expected_error(known(cells), spread**3), found, rtol=1e-5)
    both = joint_sign(head.value(known(cells)), head.value(known(cells)))
    assert spearmanr(both, head.value(known(cells))).statistic == pytest.approx(1.0)


def test_spread_is_the_distance_of_places_from_their_mean(generated, head):
    flow = generated.model.flow
    h = np.random.default_rng(5).normal(size=(40, flow.net.config.d_input)).astype(np.float32)
    h = h[np.lexsort(h.T[:2])]
    places = flow.sample(h, head.n_samples, n_steps=head.n_steps, run=Run(3)).coords  # (S, n, 2)
    expected = [
        np.sqrt(np.mean([np.sum((x - place.mean(0)) ** 2) for x in place])) for place in places.transpose(1, 0, 2)
    ]
    found = spread_of(flow, h, head, Run(3))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    mixed = np.random.default_rng(6).permutation(40)
    assert np.array_equal(spread_of(flow, h[mixed], head, Run(3)), found[mixed])


def test_of_very_many_cells_some_are_drawn_and_the_others_are_like_those_near_them(generated, head, monkeypatch):
    flow, head = generated.model.flow, replace(head, most_drawn=90)
    rng = np.random.default_rng(7)
    middles = rng.normal(size=(3, flow.net.config.d_input))
    h = (middles.repeat(60, 0) + 0.05 * rng.normal(size=(180, flow.net.config.d_input))).astype(np.float32)
    drawn = []
    sample = Flow.sample
    monkeypatch.setattr(Flow, "sample", lambda self, h, *args, **kw: drawn.append(h) or sample(self, h, *args, **kw))
    found = spread_of(flow, h, head, Run())
    assert [len(part) for part in drawn] == [90]
    own = sample(flow, drawn[0], head.n_samples, n_steps=head.n_steps).uncertainty
    index = [int(np.flatnonzero((h == row).all(1))[0]) for row in drawn[0]]
    assert len(set(index)) == 90
    np.testing.assert_allclose(found[index], own, rtol=0.02)  # who was drawn keeps its own
    for kind in range(3):
        cells = np.arange(60 * kind, 60 * kind + 60)
        others, known = np.setdiff1d(cells, index), own[np.isin(index, cells)]
        assert found[others].min() > known.min()
        assert found[others].max() < known.max()
    mixed = rng.permutation(180)
    np.testing.assert_allclose(spread_of(flow, h[mixed], head, Run()), found[mixed], rtol=1e-3)


def test_signs_know_nothing_of_order_size_or_turn(cells):
    signs = trouble_signs(known(cells))
    assert signs.shape == (150, 8)
    np.testing.assert_allclose(signs.mean(0), 0, atol=0.05)
    order = np.random.default_rng(2).permutation(150)
    np.testing.assert_allclose(trouble_signs(known(cells[order])), signs[order], atol=0.1)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0].astype(np.float32)
    np.testing.assert_allclose(trouble_signs(Features(5 * cells, 5 * cells[:, :4] @ turn)), signs, atol=0.1)


def test_a_cell_whose_neighbours_are_scattered_stands_out(cells):
    odd = cells.copy()
    odd[0, :2] = 0  # in the middle of the layout, while the rest of its embedding is like that of nobody
    odd[0, 4:] = 9
    signs = trouble_signs(known(odd))
    spread, nearest = signs[0, 0], signs[0, 2]
    assert spread > 1
    assert nearest > 2


@pytest.mark.parametrize("n", [4, 5, 16])
def test_few_cells(cells, n):
    assert np.isfinite(trouble_signs(known(cells[:n]))).all()


def test_cells_of_one_embedding_are_alike():
    same = np.ones((20, 8), dtype=np.float32)
    signs = trouble_signs(known(same))
    assert np.isfinite(signs).all()


@pytest.fixture
def features(model, query):
    """Those of the query."""
    return model.features(query.X, query.var_names, ipar._anndata.get_slides(query, None))


def test_models_keep_it(model, features):
    assert isinstance(model.uncertainty, UncertaintyHead)
    back = IPALite.from_state(*model.state())
    found = model.expected_error(features)
    assert np.array_equal(back.expected_error(features), found)
    backwards = features.rows(np.arange(len(found))[::-1])
    assert spearmanr(found, model.expected_error(backwards)[::-1]).statistic > 0.99


def test_models_with_a_flow_read_its_samples(model, generated, query, features):
    flow = generated.model.flow
    alone = replace(model, flow=flow)  # of a head that knows of none
    assert np.array_equal(alone.expected_error(features), model.expected_error(features))
    joint = np.array([[-3.0, 0.0, 3.0], [0.1, 0.3, 0.9]])
    both = replace(alone, uncertainty=replace(model.uncertainty, joint=joint))
    spread = spread_of(flow, features.embedding, both.uncertainty, Run(2))
    found = both.expected_error(features, Run(2))
    np.testing.assert_allclose(
        found, np.interp(joint_sign(model.uncertainty.value(features), spread), *joint), rtol=1e-5
    )
    back = IPALite.from_state(*both.state())
    assert np.array_equal(back.expected_error(features, Run(2)), found)
    assert back.uncertainty.joint.shape == (2, 3)
    assert np.array_equal(replace(both, flow=None).expected_error(features), model.expected_error(features))
    ipar.tl.predict_coords(query, replace(both, resemblance=None), random_state=2, progress=False)
    assert np.array_equal(query.obs["ipar_uncertainty"], found)


def test_models_without_it_are_read(model, query, tmp_path):
    replace(model, uncertainty=None).save(tmp_path / "bare")
    bare = ipar.load(tmp_path / "bare")
    assert bare.uncertainty is None
    query.obs["ipar_uncertainty"] = 1.0
    ipar.tl.predict_coords(query, bare, progress=False)
    assert "ipar_uncertainty" not in query.obs  # it spoke of other coordinates
