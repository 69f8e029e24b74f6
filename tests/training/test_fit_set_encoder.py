from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from ipar.geometry import gauge_fix
from ipar.metrics import luna_spearman
from ipar.training import SetEncoderTraining, fit_overview, fit_sketch
from ipar.training._fit_overview import _shape_stress, _stress, embedding_distances

BRIEF = SetEncoderTraining(n_steps=60, batch_size=2, size=(40, 60), lr=2e-3)


def slide(seed, n=150):
    """Noisy features that tell a position, in a frame of the slide's own."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-1, 1, size=(n, 2))
    features = np.hstack([xy, xy**2, xy[:, :1] * xy[:, 1:]]) + 0.1 * rng.normal(size=(n, 5))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return torch.tensor(features, dtype=torch.float32), gauge_fix(torch.tensor(xy @ turn, dtype=torch.float32))


def test_distances_by_matrix_product_are_distances():
    h = torch.randn(2, 9, 4, dtype=torch.float64)
    found = embedding_distances(h)
    apart = ~torch.eye(9, dtype=torch.bool)
    torch.testing.assert_close(found[:, apart], torch.cdist(h, h)[:, apart])


def test_the_loss_is_the_mean_over_pairs_and_equal_cells_pull_nowhere():
    h = torch.randn(3, 8, 4, dtype=torch.float64)
    h[:, 1] = h[:, 0]
    h.requires_grad_()
    c = torch.randn(3, 8, 2, dtype=torch.float64)
    c[:, 1] = c[:, 0]
    found = _stress(h, c)
    expected = np.mean([np.square(pdist(a) - pdist(b)) for a, b in zip(h.detach().numpy(), c.numpy(), strict=True)])
    assert found.item() == pytest.approx(expected, rel=1e-4)
    found.backward()
    assert torch.isfinite(h.grad).all()


def test_distances_across_an_unseen_slide_are_learned():
    slides = [slide(seed) for seed in range(3)]
    network = fit_overview([x for x, _ in slides], [c for _, c in slides], BRIEF, random_state=0)
    x, c = slide(9)
    with torch.no_grad():
        h = network(x[None])[0]
    assert spearmanr(pdist(h.numpy()), pdist(c.numpy())).statistic > 0.9


def test_a_sketch_of_an_unseen_slide_is_its_map():
    slides = [slide(seed) for seed in range(3)]
    network = fit_sketch([x for x, _ in slides], [c for _, c in slides], BRIEF, random_state=0)
    x, c = slide(9)
    with torch.no_grad():
        drawn = network(x[None])[0]
    assert drawn.shape == (150, 2)
    assert luna_spearman(c.numpy(), drawn.numpy()) > 0.9


def test_what_shapes_are_compared_by_knows_no_place_turn_or_size():
    drawn, true = torch.randn(2, 3, 12, 2, dtype=torch.float64)
    turn = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)  # a reflection
    found = _shape_stress(drawn, true)
    torch.testing.assert_close(_shape_stress(7 * drawn @ turn - 3, true), found)
    torch.testing.assert_close(_shape_stress(drawn, 0.1 * true @ turn + 5), found)
    a, b = (
        [x / np.sqrt(np.square(x).sum(1).mean()) for x in (y - y.mean(1, keepdims=True)).numpy()] for y in (drawn, true)
    )
    expected = np.mean([np.square(pdist(x) - pdist(y)) for x, y in zip(a, b, strict=True)])
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert _shape_stress(true @ turn, true).item() == pytest.approx(0, abs=1e-5)


def test_cells_drawn_at_one_point_keep_the_training_finite():
    drawn = torch.zeros(1, 8, 2, requires_grad=True)
    _shape_stress(drawn, torch.randn(1, 8, 2)).backward()
    assert torch.isfinite(drawn.grad).all()


@pytest.mark.parametrize("fit", [fit_overview, fit_sketch])
def test_repeats_and_leaves_the_global_state_alone(fit):
    slides = [slide(0), slide(1, n=30)]  # a slide smaller than the sets
    features, coords = [x for x, _ in slides], [c for _, c in slides]
    few = SetEncoderTraining(n_steps=3, batch_size=2, size=(40, 60))
    state = torch.random.get_rng_state()
    first, again, other = (fit(features, coords, few, random_state=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_coincident_cells_keep_the_training_finite():
    x = torch.zeros(50, 4)
    few = SetEncoderTraining(n_steps=3, batch_size=1, size=(40, 50), noise=0.0)
    network = fit_overview([x], [gauge_fix(torch.randn(50, 2))], few, random_state=0)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_it_is_ready_to_use():
    x, c = slide(0)
    network = fit_overview([x], [c], SetEncoderTraining(n_steps=1, batch_size=1, size=(40, 50)), random_state=0)
    assert not network.training


@pytest.mark.parametrize(("n_cells", "steps"), [(100, 500), (2500, 500), (5000, 1000), (50_000, 1500)])
def test_more_cells_are_trained_on_for_longer(n_cells, steps):
    assert SetEncoderTraining().steps_for(n_cells) == steps
