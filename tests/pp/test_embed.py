from __future__ import annotations

import json
import logging
import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from ipar.metrics import luna_spearman
from ipar.pp import LocalisabilityWarning, embed
from ipar.pp._embed import stored_encoder

WRITTEN = {("obsm", "X_ipar_embed"), ("obsm", "X_ipar_embed_global"), ("var",), ("uns", "ipar_embed"), ("uns", "ipar")}


@pytest.fixture
def quick(settings):
    """Embed with an encoder of a few steps: for what does not depend on its quality."""

    def run(adata, *args, **options):
        embed(adata, *(args or ("slide",)), **settings.hasty | options)
        return adata.obsm[options.get("key_added", "X_ipar_embed")]

    return run


@pytest.fixture(scope="module")
def usual(make_slides, settings):
    """The embedding of the slides as a user brings them."""
    slides = make_slides()
    embed(slides, "slide", **settings.hasty)
    return slides.obsm["X_ipar_embed"]


def test_nothing_else_is_touched(slides, quick, unchanged, global_random_state):
    changes = unchanged(slides)
    assert quick(slides).shape == (360, 16)
    assert changes() == WRITTEN


def stored_weights(adata):
    """Weights of genes in the stored encoder, by their names."""
    encoder = stored_encoder(adata)
    return pd.Series(encoder.gene_scale, encoder.genes)


def test_weights_of_genes_are_those_of_the_encoder(slides, quick):
    slides.var["symbol"] = [f"s{i}" for i in range(60)]
    slides.var["chosen"] = np.arange(60) % 3 != 0
    before = slides.var.copy()
    for options in ({}, {"mask_var": "chosen"}, {"mask_var": "chosen", "gene_key": "symbol"}):
        quick(slides, **options)
        found, expected = slides.var["ipar_gene_weight"], stored_weights(slides)
        assert found.dtype == np.float32
        taken = before["chosen"] if "mask_var" in options else before["chosen"] | True
        assert found.notna().equals(taken)
        by_name = found.set_axis(slides.var["symbol"] if "gene_key" in options else slides.var_names)
        assert by_name[expected.index].to_numpy() == pytest.approx(expected.to_numpy(), abs=0)
        assert slides.var[["symbol", "chosen"]].equals(before)


def test_weights_go_with_their_encoder(slides, quick, model):
    quick(slides)
    embed(slides, "slide", model=model, key_added="X_own")
    assert "ipar_gene_weight" in slides.var  # the other embedding is still there
    embed(slides, "slide", model=model)
    assert "ipar_gene_weight" not in slides.var
    quick(slides)
    embed(slides, "slide", use_rep="X_other", progress=False)
    assert "ipar_gene_weight" not in slides.var


def test_copy_leaves_the_original_alone(slides, settings, unchanged):
    changes = unchanged(slides)
    changed = embed(slides, "slide", copy=True, **settings.hasty)
    assert changes() == set()
    assert embed(slides, "slide", **settings.hasty) is None
    assert np.array_equal(changed.obsm["X_ipar_embed"], slides.obsm["X_ipar_embed"])


def test_embedding_is_float32_of_the_norm_that_noise_is_set_against(slides, quick):
    h = quick(slides)
    assert h.dtype == np.float32
    for name in "abc":
        assert np.square(h[slides.obs["slide"] == name]).sum(1).mean() == pytest.approx(9.4**2, rel=1e-4)
    assert quick(slides, inputs="both").shape == (360, 24)


def test_seeds(slides, quick, usual):
    assert np.array_equal(quick(slides, random_state=np.int64(0)), usual)
    seed = slides.uns["ipar_embed"]["random_state"]
    assert type(seed) is int
    drawn = quick(slides, random_state=np.random.default_rng(0)).copy()
    assert not np.allclose(drawn, usual, atol=0.1)
    assert np.array_equal(drawn, quick(slides, random_state=slides.uns["ipar_embed"]["random_state"]))


@pytest.mark.parametrize(
    "convert",
    [lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.toarray().astype(np.float64)],
    ids=["dense", "csc", "float64"],
)
def test_any_matrix_gives_the_same_embedding(slides, quick, usual, convert):
    slides.X = convert(slides.X)
    before, kind = slides.X.copy(), type(slides.X)
    assert np.array_equal(quick(slides), usual)
    assert type(slides.X) is kind
    assert slides.X.dtype == before.dtype
    assert abs(slides.X - before).max() == 0


def test_counts_give_what_normalising_first_gives(slides, quick, usual):
    slides.X = slides.layers["counts"].astype(np.int64)
    with pytest.warns(UserWarning, match="raw counts") as caught:
        found = quick(slides)
    assert caught[0].filename.endswith("_embed.py")
    assert slides.X.dtype == np.int64
    # training amplifies rounding: of embeddings of norm 9.4
    np.testing.assert_allclose(found, usual, atol=0.05)


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_a_view_is_embedded_and_its_parent_left_alone(slides, quick, unchanged):
    part = slides.obs["slide"] != "b"
    expected = quick(slides[part].copy()).copy()
    changes = unchanged(slides)
    view = slides[part]
    assert np.array_equal(quick(view), expected)
    assert changes() == set()


def test_layer_and_genes_can_be_chosen(slides, quick):
    chosen = np.arange(60) < 40
    expected = quick(slides[:, chosen].copy()).copy()
    slides.layers["lognorm"] = slides.X
    slides.X = None
    slides.var["highly_variable"] = chosen
    assert np.array_equal(quick(slides, layer="lognorm", mask_var="highly_variable"), expected)
    assert stored_encoder(slides).genes.tolist() == slides.var_names[chosen].tolist()
    assert slides.uns["ipar_embed"]["layer"] == "lognorm"


def test_the_frame_of_a_slide_does_not_matter(slides, quick, usual):
    # turned, mirrored, in another unit and elsewhere: the same geometry
    c = slides.obs["slide"] == "c"
    slides.obsm["spatial"][c] = slides.obsm["spatial"][c][:, ::-1] * [-0.02, 0.02] + [7.0, -90.0]
    np.testing.assert_allclose(quick(slides), usual, atol=0.05)  # training makes more of the last digits


def test_offsets_of_a_slide_do_not_matter(slides, quick, usual):
    # genes are centred within each slide: a constant added to all cells of one is no signal
    x = slides.X.toarray()
    x[slides.obs["slide"] == "a"] += np.linspace(0, 2, 60, dtype=np.float32)
    slides.X = x
    np.testing.assert_allclose(quick(slides), usual, atol=0.05)


def test_a_bad_input_is_named_with_its_remedy_and_nothing_is_lost(bad_training_in_space, settings, unchanged):
    bad_training = bad_training_in_space
    changes = unchanged(bad_training.adata)
    with pytest.raises(bad_training.error, match=bad_training.remedy):
        embed(bad_training.adata, "slide", **settings.hasty)
    assert changes() == set()


def test_settings_that_make_no_sense(slides, settings):
    with pytest.raises(ValueError, match="n_folds must be at least 2"):
        embed(slides, "slide", n_folds=1, **settings.hasty)
    with pytest.raises(ValueError, match="inputs must be one of .*'pca', 'genes', 'both'.*'images'"):
        embed(slides, "slide", **settings.hasty | {"inputs": "images"})
    with pytest.raises(ValueError, match="Device 'abacus' is not available.*use device='auto' or 'cpu'"):
        embed(slides, "slide", device="abacus", **settings.hasty)


def test_coordinates_may_have_a_third_dimension(slides, quick, usual):
    lifted = slides.copy()
    height = np.zeros(slides.n_obs)
    quick(lifted)
    assert "X_ipar_embed_global" in lifted.obsm
    lifted.obsm["spatial"] = np.column_stack([slides.obsm["spatial"], height])
    assert np.allclose(quick(lifted), usual, atol=1e-3)  # the plane in space is still the plane
    assert "X_ipar_embed_global" not in lifted.obsm  # layouts are flat
    lifted.obsm["spatial"][:, 2] = slides.obsm["spatial"].std() * np.random.default_rng(0).normal(size=slides.n_obs)
    assert not np.allclose(quick(lifted), usual, atol=0.1)


def test_cells_without_counts_are_warned_of_and_stay_finite(slides, quick):
    x = slides.X.toarray()
    x[::40] = 0
    slides.X = x
    with pytest.warns(UserWarning, match="9 of 360 cells have no counts"):
        assert np.isfinite(quick(slides)).all()


def test_positions_that_are_shared_are_warned_of_and_stay_finite(slides, quick):
    slides.obsm["spatial"][:60] = np.repeat(slides.obsm["spatial"][:12], 5, axis=0)
    with pytest.warns(UserWarning, match="'a': 48 of 120 cells share a position") as caught:
        assert np.isfinite(quick(slides)).all()
    assert sum("share a position" in str(one.message) for one in caught) == 1


def test_a_gene_that_never_varies_is_harmless(slides, quick):
    x = slides.X.toarray()
    x[:, :10] = 0
    slides.X = x
    assert np.isfinite(quick(slides)).all()


def test_the_input_is_chosen_on_left_out_slides(slides, settings):
    recipe = replace(settings.hasty["recipe"], inputs=None)
    embed(slides, "slide", recipe=recipe, progress=False)
    record = slides.uns["ipar_embed"]
    choice = record["choice"].set_index("inputs")["score"]
    assert sorted(choice.index) == ["both", "genes", "pca"]
    assert record["inputs"] == ("both" if choice["both"] > choice.max() - 0.05 else choice.idxmax())
    folds = slides.uns["ipar"]["localisability"]["folds"]
    assert choice[record["inputs"]] == pytest.approx((folds["distance_spearman"] + folds["recall"]).mean())


def test_localisable_tissue(fitted):
    verdict = fitted.train.uns["ipar"]["localisability"]
    assert verdict["localisable"] is True
    assert verdict["distance_spearman"] > 0.5 > 0.1 > verdict["permutation_spearman"]
    assert verdict["recall_ratio"] > 2.5
    assert verdict["explained"] > 0.5
    folds = verdict["folds"]
    assert folds["slide"].tolist() == ["a", "b", "c"]
    for name in ("recall", "recall_chance", "recall_ratio", "distance_spearman", "permutation_spearman", "explained"):
        assert verdict[name] == pytest.approx(folds[name].mean())


def test_localisable_tissue_gives_the_figures_to_the_log_and_no_warning(slides, settings, caplog):
    caplog.set_level(logging.INFO, logger="ipar")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(slides, "slide", **settings.embed)
    assert f"{slides.uns['ipar']['localisability']['distance_spearman']:.2f}" in caplog.text


def test_tissue_without_geometry_is_refused_with_the_figures(make_slides, settings):
    slides = make_slides(localisable=False)
    with pytest.warns(LocalisabilityWarning, match="coordinates would mean nothing") as caught:
        embed(slides, "slide", **settings.embed)
    verdict = slides.uns["ipar"]["localisability"]
    assert verdict["localisable"] is False
    assert abs(verdict["distance_spearman"]) < 0.15
    assert verdict["recall_ratio"] == pytest.approx(1, abs=0.2)
    (warning,) = [one for one in caught if one.category is LocalisabilityWarning]
    assert warning.filename == __file__
    for figure in (
        f"explains {verdict['explained']:.0%} of the variance of true positions (25% is needed)",
        f"correlate with distances in the tissue at {verdict['distance_spearman']:.2f}",
        f"permuted: {verdict['permutation_spearman']:.2f}; 0.25 is needed",
        f"{verdict['recall_ratio']:.1f} times as many true neighbours as chance (1.5 is needed)",
    ):
        assert figure in str(warning.message)


def test_the_encoder_survives_a_round_trip(fitted, tmp_path):
    fitted.train.write_h5ad(tmp_path / "train.h5ad")
    back = ad.read_h5ad(tmp_path / "train.h5ad")
    expected, found = stored_encoder(fitted.train), stored_encoder(back)
    args = (fitted.query.X, fitted.query.var_names, pd.Categorical(["d"] * 120))
    assert np.array_equal(found.transform(*args), expected.transform(*args))
    pd.testing.assert_frame_equal(
        back.uns["ipar"]["localisability"]["folds"],
        fitted.train.uns["ipar"]["localisability"]["folds"],
        check_index_type=False,
    )
    assert json.loads(back.uns["ipar_embed"]["encoder"]["config"])["genes"] == fitted.train.var_names.tolist()


def test_a_model_embeds_an_unseen_slide_without_coordinates(query, model, unchanged, global_random_state):
    changes = unchanged(query)
    embed(query, model=model)
    assert changes() == {("obsm", "X_ipar_embed")}
    expected = model.features(query.X, query.var_names, pd.Categorical(["d"] * 120)).embedding
    assert np.array_equal(query.obsm["X_ipar_embed"], expected)
    found = query.obsm.pop("X_ipar_embed")
    del query.obsm["spatial"]
    bare = embed(query, model=model, key_added="X_h", copy=True)
    assert np.array_equal(bare.obsm["X_h"], found)
    assert "X_h" not in query.obsm


def test_a_model_centres_each_slide_by_itself(train, model):
    embed(train, "slide", model=model, key_added="X_own")
    embed(train, model=model, key_added="X_joint")
    for name in "abc":
        one = train[train.obs["slide"] == name].copy()
        embed(one, model=model, key_added="X_alone")
        np.testing.assert_allclose(one.obsm["X_own"], one.obsm["X_alone"], atol=1e-4)
        assert not np.allclose(one.obsm["X_joint"], one.obsm["X_alone"], atol=1e-2)


def test_a_replaced_embedding_loses_the_record_of_the_old_one(train, model):
    # the record says that the embedding is cross-fitted, which is what a fit relies on
    embed(train, "slide", model=model, key_added="X_own")
    assert "ipar_embed" in train.uns
    assert "X_ipar_embed_global" in train.obsm
    embed(train, "slide", model=model)
    assert "ipar_embed" not in train.uns
    assert "X_ipar_embed_global" not in train.obsm


def test_what_tells_distances_is_kept_beside_the_embedding(fitted):
    far, h = (fitted.train.obsm[key] for key in ("X_ipar_embed_global", "X_ipar_embed"))
    encoder = stored_encoder(fitted.train)
    assert far.dtype == np.float32
    assert far.shape[1] == len(encoder.global_columns) + encoder.set_encoder.n_output
    for name in "abc":
        cells = fitted.train.obs["slide"] == name
        # the rotation into one space changes no distance; only the blocks' share of the whole differs
        same = [pdist(x[cells]) for x in (far[:, : -encoder.set_encoder.n_output], h[:, encoder.global_columns])]
        assert spearmanr(*same).statistic > 0.99
        assert luna_spearman(fitted.train.obsm["spatial"][cells], PCA(2).fit_transform(far[cells])) > 0.3


def test_a_mirrored_tissue_is_said_to_be_so(make_slides, settings):
    slides = make_slides(("a", "b"), n_cells=250, mirrored=True)
    with pytest.warns(LocalisabilityWarning, match=r"looks mirrored or repeated: the neighbours.*two distant places"):
        embed(slides, "slide", **settings.embed)
    verdict = slides.uns["ipar"]["localisability"]
    assert verdict["repeated"]
    assert verdict["two_places"] >= 0.4
    assert slides.uns["ipar"]["localisability"]["folds"]["two_places"].mean() == verdict["two_places"]


def test_a_tissue_without_a_mirror_is_not(fitted):
    verdict = fitted.train.uns["ipar"]["localisability"]
    assert not verdict["repeated"]
    assert verdict["two_places"] < 0.2
