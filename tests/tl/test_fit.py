from __future__ import annotations

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from ipar.metrics import luna_spearman
from ipar.model import Blend, load
from ipar.nn import IPALiteConfig
from ipar.pp import LocalisabilityWarning, embed
from ipar.tl import _fit as fit_tl
from ipar.tl import fit_ipalite, predict_coords
from ipar.training import Recipe
from ipar.training import embedding as embedding_module
from ipar.training import fit as fit_module
from ipar.training import network as _loop
from ipar.training.health import HealthChecks

HEALTH = (
    "logit_std",
    "attention_entropy",
    "attention_recall",
    "axis_ratio",
    "median_distance",
    "nearest_p5",
    "nearest_cv",
)
HISTORY = [
    *("epoch", "lr", "w_rw", "total", "walk", "stress", "repulsion", "entropy", "gate", "val_target", "val_gated"),
    *(f"val_{name}" for name in HEALTH),
]


@pytest.fixture
def fit(settings, tune):
    """Fit with a small network and few steps; changes of the recipe are named as those of ``tune``."""

    def run(adata, **options):
        changes = {name: options.pop(name) for name in ("n_minisets", "size", "refit", "training") if name in options}
        return fit_ipalite(adata, "slide", **settings.fit | tune(**changes) | options)

    return run


@pytest.fixture
def fit_briefly(fit, settings):
    """For what does not depend on how good the network is: one epoch, no second run."""

    def run(adata, **options):
        training = replace(settings.fit["recipe"].network.training, gate_steps=1)
        return fit(adata, **{"max_epochs": 1, "n_minisets": 2, "refit": False, "training": training} | options)

    return run


def weights(model, parts=("encoder", "network", "flow")):
    """All arrays of its stages; expected errors are learned from all training slides, the held-out one too."""
    return {name: value for name, value in model.state()[1].items() if name.split(".")[0] in parts}


def same_weights(a, b, atol=0.0):
    """Whether the networks of two models were trained alike, to the last bit if nothing else is said."""
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(np.allclose(left[name], right[name], rtol=0, atol=atol) for name in left)


def test_only_the_record_is_written_where_the_embedding_exists(train, fit_briefly, unchanged, global_random_state):
    before = set(train.uns["ipar"])
    del train.uns["ipar"]["model"]
    changes = unchanged(train)
    model = fit_briefly(train)
    assert changes() == {("uns", "ipar")}
    assert set(train.uns["ipar"]) == before == {"localisability", "history", "history_best", "fit", "model"}
    assert not model.network.net.training
    assert not model.network.gate.training


def test_the_embedding_is_made_where_it_is_missing(slides, fit_briefly, unchanged, global_random_state, settings):
    by_hand = slides.copy()
    changes = unchanged(slides)
    found = fit_briefly(slides, random_state=3)
    assert changes() == {
        ("obsm", "X_ipar_embed"),
        ("obsm", "X_ipar_embed_global"),
        ("var",),
        ("uns", "ipar_embed"),
        ("uns", "ipar"),
    }
    embed(by_hand, "slide", random_state=3, **settings.hasty)
    # another seed starts from other weights, tenths away; the last digits may depend on where arrays lie in memory
    assert same_weights(found, fit_briefly(by_hand, random_state=3), atol=0.02)
    assert not same_weights(found, fit_briefly(by_hand, random_state=4), atol=0.02)


def test_the_finish_is_chosen_by_what_prediction_reads(train, fit_briefly, monkeypatch):
    given = []
    real = fit_module.choose_sharpening

    def choosing(layout, features, coords, *args):
        given.append((features.global_features, coords))
        return real(layout, features, coords, *args)

    monkeypatch.setattr(fit_module, "choose_sharpening", choosing)
    model = fit_briefly(train)
    left = (train.obs["slide"] == model.record["validation_slide"]).to_numpy()
    read, kept = given[0][0], train.obsm["X_ipar_embed_global"][left]
    row_of = {row.tobytes(): i for i, row in enumerate(kept)}
    order = np.array([row_of[row.tobytes()] for row in read])  # a slide is read in an order of its own
    assert sorted(order) == list(range(len(kept)))
    true = train.obsm["spatial"][left][order]
    np.testing.assert_allclose(given[0][1] - given[0][1].mean(0), true - true.mean(0), atol=0.01)  # of some hundreds
    del train.obsm["X_ipar_embed_global"]  # as before it was kept
    fit_briefly(train)
    assert np.array_equal(given[1][0], train.obsm["X_ipar_embed"][left][order][:, model.encoder.global_columns])


def test_a_layer_is_passed_on_to_the_embedding(slides, fit_briefly):
    expected = fit_briefly(slides.copy())
    slides.layers["lognorm"], slides.X = slides.X, None
    assert same_weights(fit_briefly(slides, layer="lognorm"), expected)
    predict_coords(slides, progress=False)  # remembers it
    assert np.isfinite(slides.obsm["X_ipar"]).all()


def test_the_fit_learns(fitted, fit_briefly):
    untrained = fit_briefly(fitted.train.copy(), training=_loop.IPALiteTraining(lr=0.0, lr_min=0.0, gate_steps=1))
    scores = []
    for model in (fitted.model, untrained):
        query = fitted.query.copy()
        # the network alone: what comes after it knows the embedding, which both share
        predict_coords(query, model, global_weight=0.0, sharpen=False, progress=False)
        scores.append(luna_spearman(query.obsm["spatial"], query.obsm["X_ipar"]))
    assert scores[0] > 0.25
    assert scores[0] > scores[1]


def test_history_has_one_row_an_epoch(fitted):
    record = fitted.train.uns["ipar"]
    history = record["history"]
    assert list(history.columns) == HISTORY
    assert history["epoch"].tolist() == [0, 1]
    assert history["w_rw"].tolist() == [0.0, 0.3]
    assert np.isfinite(history.to_numpy()).all()
    assert (np.diff(history["lr"]) < 0).all()
    assert record["history_best"] == 1  # the warm-up does not count


def test_a_longer_fit_keeps_its_best_epoch(train, fit, settings):
    fit(train, max_epochs=4, refit=False)
    record = train.uns["ipar"]
    counted = record["history"].query("w_rw == w_rw.max()")
    assert len(record["history"]) == 4
    assert record["history_best"] == counted["epoch"][counted["val_gated"].idxmin()]


def test_the_gate_and_the_layouts_have_the_weights_of_the_recipe(train, fit_briefly, settings):
    config = replace(settings.fit["recipe"].network.config, beta=0.25)
    model, found = fit_briefly(train, config=config), train.uns["ipar"]["fit"]
    assert model.network.beta == found["beta"] == 0.25
    assert model.blend == Blend(global_map=0.5, flow=0.0)
    assert (found["global_weight"], found["flow_weight"]) == (0.5, 0.0)
    assert list(found["finish"]) == [
        "hold",
        "slide_pc_share",
        "e_geo",
        "knn_hit_20",
        "luna_spearman",
        "coverage",
        "evenness",
        "score",
    ]


def test_health_and_the_recall_of_candidates_are_recorded_and_survive_a_file(fitted, tmp_path):
    found = fitted.train.uns["ipar"]["fit"]
    health, recall = found["health"], found["candidate_recall"]
    assert set(health) == {*HEALTH, "attention_recall_chance"}
    for name in ("logit_std", "attention_entropy", "attention_recall"):
        assert health[name].shape == (fitted.model.network.net.config.n_recycles,)
    assert 0 < health["axis_ratio"] <= 1
    assert list(recall) == ["40", "60", "80", "100", "120"]
    assert list(recall.values()) == sorted(recall.values())
    assert recall["100"] == 1  # of sets of at most 80 cells
    fitted.train.write_h5ad(tmp_path / "train.h5ad")
    again = ad.read_h5ad(tmp_path / "train.h5ad").uns["ipar"]["fit"]
    np.testing.assert_array_equal(again["health"]["logit_std"], health["logit_std"])
    assert again["candidate_recall"]["40"] == recall["40"]


def test_a_choice_that_the_recipe_found_harmful_is_told_once_with_its_figure(train, fit_briefly, settings):
    config = replace(settings.fit["recipe"].network.config, geometry="monotone", gate_supervision="T2")
    with pytest.warns(
        UserWarning, match=r"reports harm from these choices: .*0\.64, against 0\.44.*0\.56, against"
    ) as told:
        fit_briefly(train, config=config)
    assert sum("reports harm" in str(one.message) for one in told) == 1


def test_a_collapse_is_told_with_its_figure(train, fit_briefly, settings):
    network = settings.fit["recipe"].network
    strict = replace(network, health=HealthChecks(least_axis_ratio=2.0, least_median_distance=9.0, most_logit_std=1e-9))
    recipe = replace(settings.fit["recipe"], network=strict)
    with pytest.warns(UserWarning, match=r"λ₂/λ₁ 0\..*, healthy above 2.*median distance .*onto single cells"):
        fit_briefly(train, recipe=recipe)


def test_seeds(train, fit_briefly):
    first = fit_briefly(train.copy())
    assert same_weights(first, fit_briefly(train.copy()))
    assert not same_weights(first, fit_briefly(train.copy(), random_state=1))
    drawn = fit_briefly(train.copy(), random_state=np.random.default_rng(0))
    assert same_weights(drawn, fit_briefly(train.copy(), random_state=drawn.record["random_state"]))
    json.dumps(drawn.record)


@pytest.fixture
def both_permuted(train, fit_briefly, settings):
    """Fit on slides as they are, and on the same with the coordinates of the held-out slide permuted."""

    def run(refit):
        recipe = settings.fit["recipe"]
        plan = replace(recipe.network.plan, n_minisets=6)  # of every slide some
        recipe = replace(
            recipe,
            network=replace(recipe.network, plan=plan, refit=refit),
            flow=replace(recipe.flow, refit=refit),
        )
        found = []
        for _ in range(2):
            found.append(fit_briefly(train.copy(), recipe=recipe, flow=True))
            left = train.obs["slide"] == found[0].record["validation_slide"]
            train.obsm["spatial"][left] = np.random.default_rng(0).permutation(train.obsm["spatial"][left])
        return found

    return run


@pytest.mark.parametrize("refit", [False, True])
def test_the_held_out_slide_is_not_trained_on_unless_refitted(both_permuted, refit):
    models = both_permuted(refit)
    for part in ("network", "flow"):
        one, other = (weights(model, [part]) for model in models)
        assert one
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one) is not refit


def test_frames_of_slides_do_not_matter(train, fit_briefly):
    expected = fit_briefly(train.copy())
    c = train.obs["slide"] == "c"
    train.obsm["spatial"][c] = train.obsm["spatial"][c][:, ::-1] * 50.0 - 1e5
    found = fit_briefly(train)
    frames = {name for name in expected.state()[1] if name.startswith(("reference.origin", "reference.coords"))}
    assert len(frames) == 6
    for name in expected.state()[1].keys() - frames:
        np.testing.assert_allclose(found.state()[1][name], expected.state()[1][name], atol=5e-3)
    for name, own in zip("abc", found.reference.slides, strict=True):
        assert np.array_equal(own.coords, train.obsm["spatial"][train.obs["slide"] == name])


def test_a_bad_input_is_named_with_its_remedy_and_nothing_is_lost(bad_training, fit, unchanged):
    changes = unchanged(bad_training.adata)
    with pytest.raises(bad_training.error, match=bad_training.remedy):
        fit(bad_training.adata)
    assert changes() == set()


def test_settings_that_make_no_sense(train, fit, unchanged):
    changes = unchanged(train)
    with pytest.raises(ValueError, match="max_epochs must be at least 1, found 0"):
        fit(train, max_epochs=0)
    with pytest.raises(ValueError, match="quality must be one of .*'fast', 'default', 'best'.*, found 'good'"):
        fit_ipalite(train, "slide", quality="good")
    with pytest.raises(ValueError, match="quality and recipe were both given"):
        fit(train, quality="fast")
    with pytest.raises(ValueError, match="n_neighbors must be at least 1, found 0"):
        fit(train, n_neighbors=0)
    with pytest.raises(ValueError, match="Device 'abacus' is not available.*use device='auto' or 'cpu'"):
        fit(train, device="abacus")
    assert changes() == set()


def test_the_number_of_candidates_is_the_recipes_unless_given(train, fit_briefly):
    assert Recipe().network.plan.n_neighbors == 100
    assert fit_briefly(train).network.n_neighbors == 40
    assert fit_briefly(train, n_neighbors=25).network.n_neighbors == 25
    assert train.uns["ipar"]["fit"]["n_neighbors"] == 25


def test_graphs_are_neither_read_nor_written(train, fit_briefly, unchanged):
    options = {"flow": True, "n_minisets": 6, "refit": True}
    expected = fit_briefly(train.copy(), **options)
    for key in train.obsp:  # slides without graphs are fitted by most tests
        train.obsp[key] = 0 * train.obsp[key]
    changes = unchanged(train)
    assert same_weights(fit_briefly(train, **options), expected)
    assert changes() == {("uns", "ipar")}


def test_more_candidates_than_cells(train, query, fit_briefly):
    model = fit_briefly(train, n_neighbors=500, size=(60, 400))  # slides have 120 cells
    assert model.network.n_neighbors == 500
    predict_coords(query, model, progress=False)
    assert np.isfinite(query.obsm["X_ipar"]).all()


def test_an_embedding_of_other_slides_is_not_used(train, fit_briefly):
    # its encoder saw the coordinates of slide c, which may be the one to be scored on
    part = train[train.obs["slide"] != "c"].copy()
    fit_briefly(part)
    assert sorted(part.uns["ipar_embed"]["slides"]) == ["a", "b"]
    assert part.uns["ipar"]["localisability"]["folds"]["slide"].tolist() == ["a", "b"]
    assert not np.allclose(part.obsm["X_ipar_embed"], train[part.obs_names].obsm["X_ipar_embed"], atol=0.5)
    alone = part[:, :].copy()
    for key in ("ipar", "ipar_embed"):
        del alone.uns[key]
    assert same_weights(fit_briefly(alone), fit_briefly(part))


def test_an_embedding_whose_encoder_is_gone_is_not_used(train, fit_briefly, settings):
    embed(train, "slide", key_added="X_second", **settings.hasty)  # the record now speaks of another one
    before = train.obsm["X_ipar_embed"].copy()
    fit_briefly(train)
    assert not np.allclose(train.obsm["X_ipar_embed"], before, atol=0.5)
    np.testing.assert_allclose(train.obsm["X_ipar_embed"], train.obsm["X_second"])


@pytest.mark.filterwarnings("ignore:Slide .a.")
def test_shared_positions_and_empty_cells_are_warned_of_and_survived(slides, fit):
    x = slides.X.toarray()
    x[100:110] = 0
    slides.X = x
    slides.obsm["spatial"][:120] = np.repeat(slides.obsm["spatial"][:6], 20, axis=0)
    with pytest.warns(UserWarning, match="10 of 360 cells have no counts") as caught:
        model = fit(slides)
    messages = "\n".join(str(one.message) for one in caught)
    assert messages.count("'a': 114 of 120 cells share a position") == 1
    assert all(np.isfinite(value).all() for value in model.state()[1].values())
    assert np.isfinite(slides.uns["ipar"]["history"].to_numpy()).all()


def test_a_tissue_without_geometry_is_fitted_with_a_warning_that_stays(make_slides, fit_briefly):
    slides = make_slides(localisable=False)
    with pytest.warns(LocalisabilityWarning, match="would mean nothing"):
        model = fit_briefly(slides)
    with pytest.warns(LocalisabilityWarning, match="these coordinates mean nothing"):
        predict_coords(slides, model, library_key="slide", progress=False)
    assert slides.uns["ipar"]["prediction"]["localisable"] is False


def interrupt(monkeypatch, at):
    """Press ctrl-C in the given training step, counted over all runs; gives the weights at the end of every epoch."""
    count, losses, validate = iter(range(10**6)), _loop.IPALiteTrainer.losses, _loop.validate
    seen = []

    def interrupted(self, batch, weights):
        if next(count) == at:
            raise KeyboardInterrupt
        return losses(self, batch, weights)

    def watched(net, gate, sets):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return validate(net, gate, sets)

    monkeypatch.setattr(_loop.IPALiteTrainer, "losses", interrupted)
    monkeypatch.setattr(_loop, "validate", watched)
    return seen


def test_ctrl_c_keeps_the_best_so_far(train, query, fit, monkeypatch, caplog):
    seen = interrupt(monkeypatch, 14)  # of four steps an epoch
    model = fit(train, max_epochs=4)
    assert "interrupted after 3 epochs" in caplog.text
    assert len(train.uns["ipar"]["history"]) == len(seen) == 3
    kept = seen[train.uns["ipar"]["history_best"]]
    assert all(torch.equal(value, kept[name]) for name, value in model.network.net.state_dict().items())
    predict_coords(query, model, progress=False)
    assert np.isfinite(query.obsm["X_ipar"]).all()


def test_ctrl_c_in_the_second_run_keeps_the_first(train, fit, monkeypatch):
    expected = fit(train.copy(), refit=False)
    interrupt(monkeypatch, 10)  # of runs of eight and four steps
    assert same_weights(fit(train, refit=True), expected)


def test_ctrl_c_before_there_is_anything_to_keep_ends_the_fit(train, fit, monkeypatch, unchanged):
    changes = unchanged(train)
    interrupt(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(train)
    assert changes() == set()


def walk(value, path="uns"):
    yield path, value
    if isinstance(value, dict):
        for key, child in value.items():
            assert isinstance(key, str)
            yield from walk(child, f"{path}[{key!r}]")


def test_the_record_holds_only_what_files_can(fitted):
    for path, value in walk(dict(fitted.train.uns)):
        assert "/" not in path
        assert not isinstance(value, tuple | list | type(None)), path
        assert isinstance(value, dict | str | bool | int | float | np.ndarray | np.generic | pd.DataFrame), path
    json.loads(fitted.train.uns["ipar"]["model"]["config"])


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_fit_goes_on_after_a_round_trip(fitted, fit_briefly, tmp_path, suffix):
    path = tmp_path / f"train.{suffix}"
    getattr(fitted.train, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    pd.testing.assert_frame_equal(
        back.uns["ipar"]["history"], fitted.train.uns["ipar"]["history"], check_index_type=False
    )
    for key in ("ipar_candidates_distances", "ipar_candidates_connectivities"):
        assert (back.obsp[key] != fitted.train.obsp[key]).nnz == 0
    found = fit_briefly(back)  # finds the embedding
    assert same_weights(found, fit_briefly(fitted.train.copy()))
    assert json.loads(json.dumps(found.record)) == found.record


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_a_view_is_fitted_and_its_parent_left_alone(train, fit_briefly, unchanged):
    changes = unchanged(train)
    whole, part = train[:], train[train.obs["slide"] != "a"]
    assert same_weights(fit_briefly(whole), fit_briefly(train.copy()))
    assert changes() == set()
    fit_briefly(part)
    assert changes() == set()


@pytest.mark.parametrize(
    "name", [pytest.param("v2", marks=pytest.mark.thorough), "d7", pytest.param("ipar2d", marks=pytest.mark.thorough)]
)
def test_any_member_of_the_family_by_name(slides, query, fit_briefly, name, tmp_path):
    model = fit_briefly(slides, config=name)
    assert model.network.net.config == IPALiteConfig.named(name, d_input=model.network.net.config.d_input)
    model.save(tmp_path / "model")
    found = [
        predict_coords(query, m, copy=True, progress=False).obsm["X_ipar"] for m in (model, load(tmp_path / "model"))
    ]
    assert np.isfinite(found[0]).all()
    assert np.array_equal(*found)


def test_a_gate_with_an_output_a_head(slides, query, fit_briefly):
    model = fit_briefly(slides, config=IPALiteConfig.v1(gate_heads=4))
    predict_coords(query, model, progress=False)
    assert np.isfinite(query.obsm["X_ipar"]).all()


def test_a_refused_tissue_costs_less_unless_forced(make_slides, fit_briefly, monkeypatch):
    """The verdict comes before the rest of the fit, which then has no flow and a quarter of the encoder's steps."""
    seen = []

    def stopped(slides, embedded, ellipses, folds, recipe, run):
        seen.append((recipe, slides))
        raise RuntimeError("far enough")

    monkeypatch.setattr(fit_tl, "fit_model", stopped)
    slides = make_slides(localisable=False)
    steps = []
    original = embedding_module.fit_encoder
    monkeypatch.setattr(
        embedding_module,
        "fit_encoder",
        lambda some, names, recipe, run, **more: (
            steps.append(recipe.set_encoder_training.n_steps) or original(some, names, recipe, run, **more)
        ),
    )
    for force in (False, True):
        with pytest.warns(LocalisabilityWarning), pytest.raises(RuntimeError, match="far enough"):
            fit_briefly(slides.copy(), flow=True, n_neighbors=7, force=force)
    (cheap, _), (full, _) = seen
    assert cheap.flow is None
    assert full.flow is not None
    assert cheap.network.plan.n_neighbors == full.network.plan.n_neighbors == 7
    assert len(cheap.finish.tried(True, 0.2)) == 2 < len(full.finish.tried(True, 0.2))
    assert steps[len(steps) // 2 - 1] < steps[-1]  # of the final encoder


def test_a_refusal_never_asks_for_more_than_the_recipe(settings):
    recipe = settings.fit["recipe"]
    for one in (recipe, Recipe(), Recipe.best()):
        left = one.refused()
        assert left.network.plan.n_minisets <= one.network.plan.n_minisets
        assert left.network.training.max_epochs <= one.network.training.max_epochs
        assert left.network.config == one.network.config
    assert Recipe().refused().network.plan.n_minisets < Recipe().network.plan.n_minisets


def test_every_stage_has_its_time(make_slides, fit_briefly):
    slides = make_slides()
    fit_briefly(slides)
    seconds = slides.uns["ipar"]["fit"]["seconds"]
    assert list(seconds) == ["folds", "encoder", "network", "finish", "expected error", "regions"]
    assert all(value > 0 for value in seconds.values())


def test_qualities_differ_in_their_work():
    fast, default, best = (Recipe.of(name) for name in ("fast", "default", "best"))
    steps = [one.embed.genes_training.n_steps for one in (fast, default, best)]
    assert steps == sorted(set(steps))
    rates = [one.embed.genes_training.lr for one in (fast, default, best)]
    assert rates == sorted(set(rates), reverse=True)
    assert default == Recipe()
    assert fast.flow is default.flow is None
    assert best.flow is not None
