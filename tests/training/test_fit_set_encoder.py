from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from ipar._run import Run
from ipar.geometry import gauge_fix
from ipar.training.set_encoder import SetEncoderTraining, _stress, embedding_distances, fit_set_encoder

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
    network = fit_set_encoder([x for x, _ in slides], [c for _, c in slides], BRIEF, Run())
    x, c = slide(9)
    with torch.no_grad():
        h = network(x[None])[0]
    assert spearmanr(pdist(h.numpy()), pdist(c.numpy())).statistic > 0.9


def test_repeats_and_leaves_the_global_state_alone():
    slides = [slide(0), slide(1, n=30)]  # a slide smaller than the sets
    features, coords = [x for x, _ in slides], [c for _, c in slides]
    few = SetEncoderTraining(n_steps=3, batch_size=2, size=(40, 60))
    state = torch.random.get_rng_state()
    first, again, other = (fit_set_encoder(features, coords, few, Run(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_coincident_cells_keep_the_training_finite():
    x = torch.zeros(50, 4)
    few = SetEncoderTraining(n_steps=3, batch_size=1, size=(40, 50), noise=0.0)
    network = fit_set_encoder([x], [gauge_fix(torch.randn(50, 2))], few, Run())
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_it_is_ready_to_use():
    x, c = slide(0)
    network = fit_set_encoder([x], [c], SetEncoderTraining(n_steps=1, batch_size=1, size=(40, 50)), Run())
    assert not network.training


@pytest.mark.parametrize(("n_cells", "steps"), [(100, 250), (2500, 250), (5000, 500), (50_000, 750)])
def test_more_cells_are_trained_on_for_longer(n_cells, steps):
    assert SetEncoderTraining().steps_for(n_cells) == steps
