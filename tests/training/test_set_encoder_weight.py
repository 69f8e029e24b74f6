from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ipar.training.embedding as module
from ipar._run import Run
from ipar.metrics import luna_spearman
from ipar.training import EncoderRecipe, Folds, SlideSet, fit_embedding
from ipar.training.encoder import fit_encoder
from ipar.training.set_encoder import choose_weight, score_weights, weighted
from ipar.training.taught import embed_slide

WEIGHTS = EncoderRecipe().set_encoder_weights


@pytest.fixture(scope="module")
def tissue(make_slides):
    adata = make_slides("abc")
    coords = adata.obsm["spatial"].astype(np.float32)
    return SlideSet.of(adata.X.copy(), pd.Index(adata.var_names), coords, pd.Categorical(adata.obs["slide"]))


def others(tissue):
    """All slides but the first."""
    return Folds.of(tissue.sizes, Run()).known(tissue, [0])


@pytest.fixture(scope="module")
def encoder(tissue, settings):
    return fit_encoder(others(tissue), ["both"], settings.embed["recipe"], Run(), set_encoder=True)["both"]


def table(spearman, energy):
    return pd.DataFrame({"weight": WEIGHTS, "luna_spearman": spearman, "e_geo": energy})


@pytest.mark.parametrize(
    ("spearman", "energy", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.8], [1.0, 1.0, 1.0, 1.0], 3.0),
        ([0.5, 0.6, 0.7, 0.8], [1.0, 1.02, 1.04, 1.06], 2.0),  # the best ranks are too dear
        ([0.5, 0.6, 0.7, 0.8], [1.2, 1.0, 1.2, 1.2], 1.5),  # dear is what costs more than the cheapest
        ([0.8, 0.7, 0.7, 0.7], [1.0, 0.9, 0.9, 0.9], 1.5),
        ([0.8, 0.7, 0.6, 0.5], [1.0, 1.0, 1.0, 1.0], 1.0),
        ([0.8, 0.8, 0.8, 0.8], [1.0, 1.0, 1.0, 1.0], 1.0),  # a tie goes to the least
    ],
)
def test_best_ranks_at_little_cost(spearman, energy, expected):
    assert choose_weight([table(spearman, energy)], 0.05)[0] == expected


def test_slides_have_one_vote_each():
    for_much, for_little = table([0.1, 0.1, 0.1, 0.9], [1.0] * 4), table([0.5, 0.1, 0.1, 0.1], [1.0] * 4)
    assert choose_weight([for_much, for_little], 0.05)[0] == 3.0
    weight, mean = choose_weight([for_much, for_little, for_little, for_little], 0.05)
    assert weight == 1.0
    np.testing.assert_allclose(mean["luna_spearman"], [0.4, 0.1, 0.1, 0.3])
    assert choose_weight([], 0.05)[0] == 1.0


def test_the_encoder_gives_what_was_scored(encoder, tissue):
    h, across = embed_slide(encoder, tissue[0])
    h_heavy, heavy = embed_slide(replace(encoder, set_encoder_weight=3.0), tissue[0])
    np.testing.assert_array_equal(h, h_heavy)
    np.testing.assert_allclose(heavy, weighted(encoder, across, 3.0), rtol=1e-6)
    width = encoder.set_encoder.n_output
    np.testing.assert_array_equal(heavy[:, :-width], across[:, :-width])
    np.testing.assert_allclose(heavy[:, -width:], 3 * across[:, -width:], rtol=1e-6)


def test_scores_are_those_of_the_first_two_components(encoder, tissue):
    across, width = embed_slide(encoder, tissue[0]).global_features, encoder.set_encoder.n_output
    found = score_weights(encoder, across, tissue[0].coords, WEIGHTS, Run()).set_index("weight")
    across = across.astype(float)
    for weight in WEIGHTS:
        x = np.concatenate([across[:, :-width], weight * across[:, -width:]], axis=1)
        u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
        expected = luna_spearman(tissue[0].coords, (u * s)[:, :2])
        assert found.loc[weight, "luna_spearman"] == pytest.approx(expected, abs=1e-3)


def test_an_encoder_without_a_set_encoder_has_no_weight(encoder):
    with pytest.raises(ValueError, match="set_encoder=True"):
        weighted(replace(encoder, set_encoder=None), np.zeros((3, 4), dtype=np.float32), 2.0)


def test_every_slide_is_embedded_and_voted_on_by_encoders_that_never_saw_it(tissue, settings, monkeypatch):
    made, recipe = [], settings.hasty["recipe"]
    real = module.fit_encoder

    def fitting(kept, *args, set_encoder=False, **options):
        found = real(kept, *args, set_encoder=set_encoder, **options)
        if set_encoder:
            made.append(({slide.name for slide in kept}, found["pca"]))
        return found

    monkeypatch.setattr(module, "fit_encoder", fitting)
    found = fit_embedding(tissue, Folds.of(tissue.sizes, Run(), n_folds=3), recipe, Run())
    weight = found.encoder.set_encoder_weight
    assert weight in WEIGHTS
    assert made[-1][0] == {"a", "b", "c"}
    votes = []
    for slide, kept in zip(tissue, found.cross_fitted_global, strict=True):
        (without,) = [encoder for names, encoder in made if slide.name not in names]
        across = embed_slide(replace(without, set_encoder_weight=weight), slide).global_features
        np.testing.assert_allclose(kept, across, rtol=1e-4, atol=1e-4)
        plain = weighted(without, across, 1 / weight)
        votes.append(score_weights(without, plain, slide.coords, WEIGHTS, Run(), recipe.n_minisets))
    np.testing.assert_allclose(found.weight_choice, choose_weight(votes, recipe.energy_cost)[1], rtol=1e-3)


def test_coordinates_in_three_dimensions_leave_the_weight_alone(tissue, settings):
    deep = [replace(s, coords=np.c_[s.coords, s.coords[:, :1]].astype(np.float32)) for s in tissue]
    folds = Folds.of(tissue.sizes, Run())
    found = fit_embedding(SlideSet(tuple(deep), tissue.genes), folds, settings.hasty["recipe"], Run())
    assert found.encoder.set_encoder_weight == 1.0
    assert found.weight_choice.empty
    assert found.cross_fitted_global == []
