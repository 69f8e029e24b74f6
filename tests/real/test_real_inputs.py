"""Real slides through the whole path, thinned out so that it takes seconds: files, counts, sections of a mouse brain."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import ipar
from ipar._anndata import get_coords, get_slides
from ipar._expression import get_expression
from ipar.metrics import evaluate
from ipar.nn import IPALiteConfig
from ipar.pp import LocalisabilityWarning
from ipar.training import (
    EncoderRecipe,
    EncoderTraining,
    IPALiteTraining,
    MinisetPlan,
    NetworkRecipe,
    Recipe,
    SetEncoderTraining,
)

pytestmark = [pytest.mark.real, pytest.mark.slow]

RECIPE = EncoderRecipe(
    n_pcs=30,
    n_output=32,
    pca_hidden=(64,),
    pca_training=EncoderTraining(n_steps=120, batch_size=128),
    set_encoder_training=SetEncoderTraining(n_steps=30),
)
FIT = Recipe(
    embed=RECIPE,
    network=NetworkRecipe(
        config=IPALiteConfig(d_state=32, n_heads=2, d_head=16, n_recycles=3),
        training=IPALiteTraining(gate_steps=100, lr=2e-3),
        plan=MinisetPlan(n_minisets=32, size=(64, 96), n_neighbors=40),
        refit_epochs=1,
    ),
)


@pytest.fixture(scope="module")
def thinned(real_data):
    """Read some cells of some slides, as they are in the file."""

    def read(name, slides, n_cells):
        whole = ad.read_h5ad(real_data(f"{name}.h5ad"), backed="r")
        rng = np.random.default_rng(0)
        slides = slides or list(whole.obs["slide"].cat.categories)
        rows = [rng.choice(np.flatnonzero(whole.obs["slide"] == slide), n_cells, replace=False) for slide in slides]
        part = whole[np.sort(np.concatenate(rows))].to_memory()
        whole.file.close()
        return part

    return read


def prepared(adata, n_genes=500):
    """As a user of scanpy does it: normalise, take logarithms, keep the genes that vary most."""
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    x = adata.X.toarray()
    return adata[:, np.sort(np.argsort(-x.var(0))[:n_genes])].copy()


@dataclass(frozen=True)
class Brain:
    train: ad.AnnData
    test: ad.AnnData
    model: ipar.IPALite


@pytest.fixture(scope="module")
def brain(thinned):
    """Two sections with what a fit leaves on them, and a third without its coordinates."""
    slides = prepared(thinned("mouse_brain_st", ["Hippo1", "Hippo2", "Hippo3"], 250))
    unseen = slides.obs["slide"] == "Hippo3"
    train, test = slides[~unseen].copy(), slides[unseen].copy()
    test.obsm["truth"] = test.obsm.pop("spatial")
    with warnings.catch_warnings(action="error", category=LocalisabilityWarning):
        ipar.pp.embed(train, "slide", recipe=RECIPE, inputs="pca", progress=False)
    model = ipar.tl.fit_ipalite(train, "slide", recipe=FIT, max_epochs=2, progress=False)
    ipar.tl.predict_coords(test, model, progress=False)
    return Brain(train, test, model)


def test_brain_is_localisable(brain):
    verdict = brain.train.uns["ipar"]["localisability"]
    assert verdict["localisable"]
    assert verdict["distance_spearman"] > 5 * verdict["permutation_spearman"]
    assert np.isfinite(brain.train.uns["ipar"]["history"].to_numpy()).all()


def test_an_unseen_section_is_placed_better_than_by_chance(brain):
    coords, truth = brain.test.obsm["X_ipar"], brain.test.obsm["truth"]
    assert coords.shape == (250, 2)
    assert np.isfinite(coords).all()
    found = evaluate(truth, coords)
    permuted = evaluate(truth, np.random.default_rng(0).permutation(truth))
    assert found["luna_spearman"] > permuted["luna_spearman"] + 0.2
    assert found["knn_hit_20_ratio"] > 1.5 * permuted["knn_hit_20_ratio"]
    assert found["e_geo"] < permuted["e_geo"]


def test_diagnostics_of_an_unseen_section(brain):
    section, options = brain.test.copy(), {"spatial_key": "truth", "n_minisets": 6, "progress": False}
    ipar.tl.attention_diagnostics(section, brain.model, **options)
    table = section.uns["ipar"]["diagnostics"]
    means = table.groupby(["measure", "recycle"])["value"].mean()
    assert means["attention_recall", 3] > means["attention_recall_chance", 0] + 0.02
    assert means["gate_precision", 0] > means["attention_recall_chance", 0] + 0.05
    assert means["rho_gate"].mean() > 0.2
    assert means["rho_gate"].min() > 0
    gap = ipar.tl.decompose_gap(section, brain.model, **options).groupby("condition")["e_geo"].mean()
    assert gap["target edges"] < gap["true candidates"] < gap["all candidates"] < gap["wrong candidates"]
    controls = ipar.tl.shuffle_controls(section, brain.model, **options).groupby("condition")["ratio"].mean()
    assert controls[["shuffled", "other miniset", "gaussian"]].min() > 1.5


def test_the_files_on_disk_give_the_same(brain, tmp_path):
    brain.model.save(tmp_path / "brain")
    brain.train.write_h5ad(tmp_path / "train.h5ad")
    loaded, back = ipar.load(tmp_path / "brain"), ad.read_h5ad(tmp_path / "train.h5ad")
    again = ipar.tl.predict_coords(brain.test, loaded, copy=True, progress=False)
    assert np.array_equal(again.obsm["X_ipar"], brain.test.obsm["X_ipar"])
    ipar.tl.predict_coords(back, progress=False)
    ipar.tl.predict_coords(brain.train, brain.model, library_key="slide", progress=False)
    assert np.array_equal(back.obsm["X_ipar"], brain.train.obsm["X_ipar"])


def test_genes_are_matched_between_files(brain, thinned):
    # another technology: few genes in common, and said so
    embryo = thinned("mouse_embryo_seqfish", ["embryo1"], 100)
    with pytest.raises(ValueError, match=r"of the model's 500 genes are in the data, at least half are needed"):
        ipar.tl.predict_coords(embryo, brain.model, progress=False)
    # the same slide with all its genes
    whole = thinned("mouse_brain_st", ["Hippo1", "Hippo2", "Hippo3"], 250)
    whole = whole[whole.obs["slide"] == "Hippo3"].copy()
    sc.pp.normalize_total(whole, target_sum=1e4)
    sc.pp.log1p(whole)
    ipar.tl.predict_coords(whole, brain.model, progress=False)
    np.testing.assert_array_equal(whole.obsm["X_ipar"], brain.test.obsm["X_ipar"])


def test_liver_is_refused(thinned):
    slides = prepared(thinned("mouse_liver_st", ["CN16_D1", "CN65_D1", "CN65_E1"], 250))
    with pytest.warns(LocalisabilityWarning, match="cannot be localised"):
        ipar.pp.embed(slides, "slide", recipe=RECIPE, inputs="pca", progress=False)
    assert not slides.uns["ipar"]["localisability"]["localisable"]


@pytest.mark.parametrize(
    ("name", "n_slides", "counts"),
    [
        ("mouse_brain_st", 8, True),
        ("mouse_ob_st", 4, True),
        ("mouse_liver_st", 9, True),
        ("mouse_embryo_seqfish", 3, False),
    ],
)
def test_counts_are_told_from_logarithms(thinned, name, n_slides, counts):
    adata = thinned(name, None, 60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = get_expression(adata)
    assert any("raw counts" in str(one.message) for one in caught) is counts
    if counts:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    np.testing.assert_allclose(found.matrix.toarray(), adata.X.toarray(), atol=1e-4)
    assert len(get_slides(adata, "slide", minimum=2).categories) == n_slides
    coords = get_coords(adata)
    assert coords.shape == (60 * n_slides, 2)
    assert np.ptp(coords, axis=0).min() > 0
