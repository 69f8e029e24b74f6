"""A section that teaches alone: what is held out of it reaches nothing that is fitted without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist

from ipar._run import Run
from ipar.training import Folds, MinisetPlan, NetworkRecipe, SlideSet, fit_embedding
from ipar.training.embedding import fit_folds
from ipar.training.network import IPALiteTraining, fit_network
from ipar.training.taught import embed_slide


@pytest.fixture(scope="module")
def section(make_slides):
    """A section as arrays, and its folds."""
    adata = make_slides(("s",), n_cells=300)
    coords = (adata.obsm["spatial"] - adata.obsm["spatial"].mean(axis=0)).astype(np.float32)
    slides = SlideSet.of(adata.X.copy(), pd.Index(adata.var_names), coords, pd.Categorical(adata.obs["slide"]))
    return slides, Folds.within(coords, Run())


def scrambled(slides, part):
    """The section with the coordinates of a part and its margin shuffled."""
    hidden = np.r_[part.rows, part.margin]
    coords = slides[0].coords.copy()
    coords[hidden] = np.random.default_rng(0).permutation(coords[hidden])
    return SlideSet((replace(slides[0], coords=coords),), slides.genes)


def arrays_of(encoder):
    return encoder.state()[1]


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("inputs", ["pca", "both"])
def test_coordinates_of_a_held_out_part_reach_no_bit_of_its_encoder(section, settings, inputs):
    slides, folds = section
    recipe = replace(settings.hasty["recipe"], inputs=inputs)
    before = fit_folds(slides, folds, recipe, Run())
    part = folds.split(slides)[1]
    after = fit_folds(scrambled(slides, folds.parts[1]), folds, recipe, Run())
    one, other = (run.left_out[1].encoder for run in (before, after))
    assert same(arrays_of(one), arrays_of(other))
    assert np.array_equal(embed_slide(one, part).embedding, embed_slide(other, part).embedding)
    for i in (0, 2):
        assert not same(arrays_of(before.left_out[i].encoder), arrays_of(after.left_out[i].encoder))
    assert before.localisability.to_dict()["held_out"] == "blocks"
    assert [one.score.slide for one in before.left_out] == ["s, part 1", "s, part 2", "s, part 3"]


def test_coordinates_of_a_held_out_part_reach_no_bit_of_its_features(section, settings):
    slides, folds = section
    recipe = replace(settings.hasty["recipe"], set_encoder_weights=(1.0,))
    before, after = (fit_embedding(one, folds, recipe, Run()) for one in (slides, scrambled(slides, folds.parts[1])))
    assert not same(arrays_of(before.encoder), arrays_of(after.encoder))  # which saw them
    assert np.array_equal(before.cross_fitted_global[1], after.cross_fitted_global[1])
    for i in (0, 2):
        assert not np.allclose(before.cross_fitted_global[i], after.cross_fitted_global[i], atol=1e-3)
    for block in np.split(np.arange(16), 2):  # the same but for the frame of the final encoder
        one, other = (pdist(run.cross_fitted[1][:, block].astype(float)) for run in (before, after))
        np.testing.assert_allclose(one / one.mean(), other / other.mean(), atol=1e-4)


def test_every_part_has_features_and_the_encoder_is_of_the_whole_section(section, settings):
    slides, folds = section
    found = fit_embedding(slides, folds, settings.hasty["recipe"], Run())
    assert [len(h) for h in found.cross_fitted] == [len(part.rows) for part in folds.parts]
    whole = embed_slide(found.encoder, slides[0])
    assert whole.embedding.shape == (300, 16)
    (joined,) = folds.joined(found.cross_fitted)
    assert joined.shape == whole.embedding.shape
    assert not np.allclose(joined, whole.embedding, atol=0.1)


def test_coordinates_of_the_held_out_part_and_its_margin_reach_no_bit_of_the_network(section):
    slides, folds = section
    plan = MinisetPlan(n_minisets=6, size=(40, 60), n_neighbors=15)
    training = IPALiteTraining(max_epochs=2, ramp_epochs=1, gate_steps=3)
    recipe = NetworkRecipe(training=training, plan=plan, n_validation=2)
    rng = np.random.default_rng(0)
    embeddings = [rng.normal(size=(len(part.rows), 8)).astype(np.float32) for part in folds.parts]
    hidden = scrambled(slides, folds.parts[folds.held_out])
    for refit in (True, False):
        before, after = (
            fit_network(embeddings, folds.split(one).coords, folds, replace(recipe, refit=refit), Run())
            for one in (slides, hidden)
        )
        assert equal(before.held_out, after.held_out)
        assert equal(before.stage, after.stage) is not refit


def equal(a, b):
    pairs = [
        pair
        for one, other in zip(a.modules, b.modules, strict=True)
        for pair in zip(one.parameters(), other.parameters(), strict=True)
    ]
    return all(torch.equal(x, y) for x, y in pairs)
