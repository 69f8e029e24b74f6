from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist

from ipar._run import Run
from ipar.training import Folds, SlideSet, fit_embedding
from ipar.training.encoder import fit_encoder
from ipar.training.slides import Slide
from ipar.training.taught import embed_slide as features_of


def embed_slide(encoder, slide, genes):
    return features_of(encoder, slide, genes).embedding


@pytest.fixture
def tissue(make_slides):
    """Four slides as arrays, and the names of their genes."""
    adata = make_slides("abcd")
    coords = adata.obsm["spatial"].astype(np.float32)
    slides = SlideSet.of(adata.X.copy(), pd.Index(adata.var_names), coords, pd.Categorical(adata.obs["slide"]))
    return list(slides), slides.genes


@pytest.fixture
def fit(settings):
    """Fit with few steps."""

    def run(slides, genes, *, inputs="pca", n_folds=None, recipe=None, random_state=0):
        recipe = replace(recipe or settings.hasty["recipe"], inputs=inputs)
        whole, seed = SlideSet(tuple(slides), genes), Run(random_state)
        return fit_embedding(whole, Folds.of(whole.sizes, seed, n_folds=n_folds or len(slides)), recipe, seed)

    return run


def scrambled(slide, seed=0):
    return replace(slide, coords=np.random.default_rng(seed).permutation(slide.coords))


def shape(h, n_blocks):
    """Relative distances between cells within every block: what turning, moving and scaling it leaves as it is."""
    distances = np.stack([pdist(block) for block in np.split(h.astype(float), n_blocks, axis=1)])
    return distances / distances.mean(1, keepdims=True)


@pytest.mark.parametrize(
    "inputs", [*(pytest.param(one, marks=pytest.mark.thorough) for one in ("pca", "genes")), "both"]
)
def test_no_slide_is_embedded_by_an_encoder_that_saw_its_coordinates(tissue, fit, inputs):
    slides, genes = tissue
    other = [scrambled(slides[0]), *slides[1:]]
    a, b = fit(slides, genes, inputs=inputs), fit(other, genes, inputs=inputs)
    n_blocks = 3 if inputs == "both" else 2
    # the final encoder and the other slides' embeddings hang on the scrambled coordinates …
    assert not np.allclose(
        embed_slide(a.encoder, slides[0], genes), embed_slide(b.encoder, slides[0], genes), atol=0.01
    )
    for i in (1, 2, 3):
        before, after = (shape(run.cross_fitted[i], n_blocks) for run in (a, b))
        assert not np.allclose(before, after, atol=0.01)
    # … its own does not, but for its frame in the final space
    before, after = (shape(run.cross_fitted[0], n_blocks) for run in (a, b))
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_cross_fitted_embeddings_are_not_those_of_the_final_encoder(tissue, fit):
    slides, genes = tissue
    found = fit(slides, genes)
    for slide, out in zip(slides, found.cross_fitted, strict=True):
        own = embed_slide(found.encoder, slide, genes)
        assert out.shape == own.shape == (120, 16)
        assert out.dtype == np.float32
        for block in np.split(np.square(out.astype(float)), 2, axis=1):
            assert block.sum(1).mean() == pytest.approx(9.4**2 / 2, rel=1e-4)
        assert not np.allclose(shape(out, 2), shape(own, 2), atol=0.05)


def test_cross_fitted_embeddings_lie_in_the_space_of_the_final_encoder(tissue, fit, settings):
    # after enough training both see the same geometry, so a cell lies near its place in the final space
    slides, genes = tissue
    found = fit(slides, genes, recipe=settings.embed["recipe"])
    for slide, out in zip(slides, found.cross_fitted, strict=True):
        own = embed_slide(found.encoder, slide, genes)
        gap = np.linalg.norm(out - own, axis=1).mean()
        by_chance = np.linalg.norm(np.random.default_rng(0).permutation(out) - own, axis=1).mean()
        assert gap < 0.6 * by_chance


def test_slides_left_out_together_do_not_see_each_other(tissue, fit):
    slides, genes = tissue
    folds = Folds.of([120] * 4, Run(), n_folds=2).groups
    i, j = folds[0]
    other = list(slides)
    other[j] = scrambled(slides[j])
    a, b = (fit(group, genes, n_folds=2) for group in (slides, other))
    np.testing.assert_allclose(shape(a.cross_fitted[i], 2), shape(b.cross_fitted[i], 2), atol=1e-4)
    other_fold = folds[1][0]
    assert not np.allclose(shape(a.cross_fitted[other_fold], 2), shape(b.cross_fitted[other_fold], 2), atol=0.01)


@pytest.mark.parametrize("lead", [10.0, pytest.param(0.0, marks=pytest.mark.thorough), -10.0])
def test_both_inputs_are_taken_unless_one_leads_on_left_out_slides(tissue, fit, settings, lead):
    slides, genes = tissue
    recipe = replace(settings.hasty["recipe"], lead_over_both=lead)
    found = fit(slides, genes, inputs=None, n_folds=2, recipe=recipe)
    scores = found.choice.set_index("inputs")["score"]
    assert set(scores.index) == {"pca", "genes", "both"}
    best = {10.0: "both", 0.0: scores.idxmax(), -10.0: scores.drop("both").idxmax()}[lead]
    assert found.encoder.record["inputs"] == best
    alone = fit(slides, genes, inputs=best, n_folds=2)
    assert alone.choice["score"].item() == pytest.approx(scores[best])
    for a, b in zip(found.cross_fitted, alone.cross_fitted, strict=True):
        assert np.array_equal(a, b)


def test_the_best_number_of_components_on_left_out_slides_is_taken(tissue, fit, settings):
    recipe = settings.hasty["recipe"]
    found = fit(*tissue, inputs=None, recipe=replace(recipe, n_pcs=(3, 12)))
    scores = found.choice.set_index(["inputs", "n_pcs"])["score"]
    assert list(scores.index) == [("pca", 3), ("genes", 3), ("both", 3), ("pca", 12), ("both", 12)]
    lead = recipe.lead_over_both * (scores.index.get_level_values("inputs") == "both")
    name, n_pcs = (scores + lead).idxmax()
    assert found.encoder.record["inputs"] == name
    assert found.encoder.loadings.shape[1] == found.encoder.record["n_pcs"] == n_pcs
    # each is fitted as if it were alone
    for n in (3, 12):
        alone = fit(*tissue, inputs="both", recipe=replace(recipe, n_pcs=n))
        assert alone.choice["score"].item() == pytest.approx(scores["both", n])


def test_few_genes_are_not_tried_twice(tissue, fit, settings):
    slides, genes = tissue
    few = [replace(slide, expression=slide.expression[:, :9]) for slide in slides]
    found = fit(few, genes[:9], inputs=None, recipe=replace(settings.hasty["recipe"], n_pcs=(30, 100)))
    assert found.choice["n_pcs"].tolist() == [8, 8, 8]
    assert found.encoder.loadings.shape == (9, 8)


def test_scores_are_of_the_left_out_slides_in_order(tissue, fit):
    slides, genes = tissue
    found = fit(slides, genes).localisability
    assert [fold.slide for fold in found.folds] == list("abcd")
    # a slide whose coordinates are noise scores at chance, and spoils the others only a little
    noisy = fit([slides[0], scrambled(slides[1]), *slides[2:]], genes).localisability
    assert abs(noisy.folds[1].distance_spearman) < 0.15


def test_seeds(tissue, fit, global_random_state):
    slides, genes = tissue
    first, again, other = (fit(slides, genes, random_state=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.cross_fitted, again.cross_fitted, strict=True))
    assert not np.allclose(first.cross_fitted[0], other.cross_fitted[0], atol=0.1)


def test_inputs_are_left_alone(tissue, fit):
    slides, genes = tissue
    before = [(slide.expression.toarray(), slide.coords.copy()) for slide in slides]
    fit(slides, genes)
    for slide, (x, coords) in zip(slides, before, strict=True):
        assert np.array_equal(slide.expression.toarray(), x)
        assert np.array_equal(slide.coords, coords)


def test_settings_that_make_no_sense(tissue, fit):
    with pytest.raises(ValueError, match="n_folds must be at least 2, found 1"):
        fit(*tissue, n_folds=1)
    with pytest.raises(ValueError, match="inputs must be one of .*found 'images'"):
        fit(*tissue, inputs="images")


@pytest.mark.parametrize(
    ("n_genes", "asked", "dropped"),
    [
        (60, {}, 0.2),
        (1000, {}, 0.5),
        (60, {"few_genes": 60}, 0.5),
        (60, {"panel_input_dropout": 0.0}, 0.0),
        (1000, {"genes_input_dropout": 0.25}, 0.25),
    ],
)
def test_a_panel_of_few_genes_loses_fewer_of_them_in_training(settings, n_genes, asked, dropped):
    rng = np.random.default_rng(0)
    slides = [
        Slide(sparse.random_array((90, n_genes), density=0.3, rng=rng, format="csr", dtype=np.float32), x, name)
        for name, x in (("a", rng.random((90, 2), np.float32)), ("b", rng.random((90, 2), np.float32)))
    ]
    recipe = replace(settings.hasty["recipe"], **asked)
    whole = SlideSet(tuple(slides), pd.Index([f"g{i}" for i in range(n_genes)]))
    found = fit_encoder(whole, ["both"], recipe, Run())["both"]
    shares = {part.source: part.net.net[0].threshold / 256 for part in found.parts}
    assert shares["genes"] == pytest.approx(dropped, abs=1 / 512)
    assert shares["pca"] == 0
    assert found.record["genes_input_dropout"] == dropped
