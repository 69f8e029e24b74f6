from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ipar.training._fit_embedding as module
from ipar.metrics import luna_spearman
from ipar.training import Slide, fit_embedding
from ipar.training._fit_encoder import fit_encoder
from ipar.training._overview_weight import OVERVIEW_WEIGHTS, choose_weight, score_weights, weighted


@pytest.fixture(scope="module")
def tissue(make_slides):
    adata = make_slides("abc")
    parts = [adata[adata.obs["slide"] == name] for name in "abc"]
    slides = [
        Slide(own.X.copy(), own.obsm["spatial"].astype(np.float32), name)
        for own, name in zip(parts, "abc", strict=True)
    ]
    return slides, pd.Index(adata.var_names)


@pytest.fixture(scope="module")
def encoder(tissue, settings):
    slides, genes = tissue
    return fit_encoder(slides[1:], genes, ["both"], settings.embed["recipe"], overview=True, random_state=0)["both"]


def table(spearman, energy):
    return pd.DataFrame({"weight": OVERVIEW_WEIGHTS, "luna_spearman": spearman, "e_geo": energy})


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
    assert choose_weight([table(spearman, energy)])[0] == expected


def test_slides_have_one_vote_each():
    for_much, for_little = table([0.1, 0.1, 0.1, 0.9], [1.0] * 4), table([0.5, 0.1, 0.1, 0.1], [1.0] * 4)
    assert choose_weight([for_much, for_little])[0] == 3.0
    weight, mean = choose_weight([for_much, for_little, for_little, for_little])
    assert weight == 1.0
    np.testing.assert_allclose(mean["luna_spearman"], [0.4, 0.1, 0.1, 0.3])
    assert choose_weight([])[0] == 1.0


def test_the_encoder_gives_what_was_scored(encoder, tissue):
    slide, genes = tissue[0][0], tissue[1]
    one = pd.Categorical(np.zeros(slide.expression.shape[0], dtype=int))
    h, far, _ = encoder.views(slide.expression, genes, one)
    h_heavy, heavy, _ = replace(encoder, overview_weight=3.0).views(slide.expression, genes, one)
    np.testing.assert_array_equal(h, h_heavy)
    np.testing.assert_allclose(heavy, weighted(encoder, far, 3.0), rtol=1e-6)
    width = encoder.overview.n_output
    np.testing.assert_array_equal(heavy[:, :-width], far[:, :-width])
    np.testing.assert_allclose(heavy[:, -width:], 3 * far[:, -width:], rtol=1e-6)


def test_scores_are_those_of_the_first_two_components(encoder, tissue):
    slide, genes = tissue[0][0], tissue[1]
    one = pd.Categorical(np.zeros(slide.expression.shape[0], dtype=int))
    far = encoder.views(slide.expression, genes, one).far
    found = score_weights(encoder, far, slide.coords, 0).set_index("weight")
    far = far.astype(float)
    for weight in OVERVIEW_WEIGHTS:
        x = np.concatenate(
            [far[:, : -encoder.overview.n_output], weight * far[:, -encoder.overview.n_output :]], axis=1
        )
        u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
        assert found.loc[weight, "luna_spearman"] == pytest.approx(
            luna_spearman(slide.coords, (u * s)[:, :2]), abs=1e-3
        )


def test_an_encoder_without_a_set_encoder_has_no_weight(encoder):
    with pytest.raises(ValueError, match="overview=True"):
        weighted(replace(encoder, overview=None), np.zeros((3, 4), dtype=np.float32), 2.0)


def test_every_slide_is_seen_and_voted_on_by_encoders_that_never_saw_it(tissue, settings, monkeypatch):
    slides, genes = tissue
    made = []
    real = module.fit_encoder

    def fitting(kept, *args, overview=False, **options):
        found = real(kept, *args, overview=overview, **options)
        if overview:
            made.append(({slide.name for slide in kept}, found["pca"]))
        return found

    monkeypatch.setattr(module, "fit_encoder", fitting)
    found = fit_embedding(slides, genes, inputs="pca", recipe=settings.hasty["recipe"], n_folds=3, random_state=0)
    weight = found.encoder.overview_weight
    assert weight in OVERVIEW_WEIGHTS
    assert made[-1][0] == {"a", "b", "c"}
    votes = []
    for slide, kept in zip(slides, found.cross_fitted_overview, strict=True):
        (unseen,) = [encoder for names, encoder in made if slide.name not in names]
        one = pd.Categorical(np.zeros(slide.expression.shape[0], dtype=int))
        far = replace(unseen, overview_weight=weight).views(slide.expression, genes, one).far
        np.testing.assert_allclose(kept, far, rtol=1e-4, atol=1e-4)
        votes.append(score_weights(unseen, weighted(unseen, far, 1 / weight), slide.coords, 0))
    np.testing.assert_allclose(found.overview_choice, choose_weight(votes)[1], rtol=1e-3)


def test_coordinates_in_three_dimensions_leave_the_weight_alone(tissue, settings):
    slides, genes = tissue
    deep = [replace(s, coords=np.c_[s.coords, s.coords[:, :1]].astype(np.float32)) for s in slides]
    found = fit_embedding(deep, genes, inputs="pca", recipe=settings.hasty["recipe"], random_state=0)
    assert found.encoder.overview_weight == 1.0
    assert found.overview_choice.empty
    assert found.cross_fitted_overview == []
