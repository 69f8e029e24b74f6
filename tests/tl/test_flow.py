"""A flow beside the network: a third layout of the same embedding."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import procrustes

import ipar
from ipar._expression import get_expression
from ipar._run import Run
from ipar.graph.candidates import cosine_candidates
from ipar.model import IGA, Blend, Sharpening
from ipar.model import flow as flow_module
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of
from ipar.nn.pose_flow import noise_poses
from ipar.training import Recipe
from ipar.training import fit as module


@pytest.fixture
def with_flow(model, generated):
    """The model of the other tests, with the flow of the other tests."""
    return replace(model, flow=generated.model.flow, blend=Blend(model.blend.global_map, 0.3))


def placed(query, model, **options):
    query = query.copy()
    ipar.tl.predict_coords(query, model, **({"progress": False} | options))
    return query


def expression_of(query):
    expression = get_expression(query)
    return expression.matrix, expression.genes, pd.Categorical(np.zeros(query.n_obs, dtype=int))


def test_the_result_is_the_weighted_mean_of_the_layouts(query, model, with_flow):
    plain = placed(query, model, sharpen=False).obsm["X_ipar"]
    mixed = placed(query, with_flow, sharpen=False)
    assert mixed.uns["ipar"]["prediction"]["flow_weight"] == 0.3
    assert np.array_equal(placed(query, with_flow, sharpen=False, flow_weight=0.0).obsm["X_ipar"], plain)
    alone = placed(query, with_flow, sharpen=False, flow_weight=1.0).obsm["X_ipar"]
    # an independent formulation: both at unit norm, the second turned onto the first
    a, b, _ = procrustes(plain, alone)
    assert procrustes(0.7 * a + 0.3 * b / np.linalg.norm(b), mixed.obsm["X_ipar"])[2] == pytest.approx(0, abs=1e-4)


def test_a_saved_model_keeps_its_flow(query, with_flow, tmp_path):
    with_flow.save(tmp_path / "model")
    loaded = ipar.load(tmp_path / "model")
    assert loaded.blend == with_flow.blend
    assert loaded.flow.set_size == with_flow.flow.set_size
    assert np.array_equal(placed(query, loaded).obsm["X_ipar"], placed(query, with_flow).obsm["X_ipar"])


def test_the_flow_of_a_model_can_be_sampled(query, with_flow):
    options = {"n_samples": 3, "n_steps": 2, "sharpen": False, "progress": False}
    alone = ipar.tl.sample_coords(query, IGA(with_flow.encoder, with_flow.flow), copy=True, **options)
    ipar.tl.sample_coords(query, with_flow, **options)
    assert query.obsm["X_ipar_samples"].shape == (query.n_obs, 6)
    assert np.array_equal(query.obsm["X_ipar_samples"], alone.obsm["X_ipar_samples"])


def test_samples_of_a_model_with_a_flow_know_what_the_model_knows(query, model, with_flow):
    record = with_flow.record | {"localisability": model.record["localisability"] | {"localisable": False}}
    options = {"n_samples": 2, "n_steps": 2, "progress": False}
    with pytest.warns(ipar.pp.LocalisabilityWarning):
        ipar.tl.sample_coords(query, replace(with_flow, record=record, sharpening=Sharpening()), **options)
    assert query.uns["ipar"]["prediction"]["sharpened"]
    ipar.tl.sample_coords(query, replace(with_flow, sharpening=None), **options)
    assert not query.uns["ipar"]["prediction"]["sharpened"]


def test_a_fit_has_the_flow_of_its_recipe_unless_told_otherwise():
    assert inspect.signature(ipar.tl.fit_ipalite).parameters["flow"].default is None
    assert [Recipe.of(quality).flow is not None for quality in ("fast", "default", "best")] == [False, False, True]


def test_a_weight_without_a_flow_is_refused(query, model, with_flow):
    with pytest.raises(ValueError, match="needs a model with a flow, found .* fitted with flow=False"):
        placed(query, model, flow_weight=0.5)
    assert placed(query, model, flow_weight=0.0).uns["ipar"]["prediction"]["flow_weight"] == 0.0
    with pytest.raises(ValueError, match="flow_weight must lie between 0 and 1, found 2"):
        placed(query, with_flow, flow_weight=2.0)


@pytest.fixture
def fit(generated, settings):
    """Fit with a flow, in one epoch, both stages once more on all slides."""

    def run(**options):
        recipe = settings.fit["recipe"]
        recipe = replace(recipe, network=replace(recipe.network, refit=True), flow=replace(recipe.flow, refit=True))
        train = generated.train.copy()
        options = settings.fit | {"recipe": recipe, "flow": True, "max_epochs": 1} | options
        return train, ipar.tl.fit_ipalite(train, "slide", **options)

    return run


def test_fit_trains_a_flow_and_chooses_by_stages_that_have_not_seen_the_slide(fit, monkeypatch):
    made, given = {}, {}
    fits, choose = {name: getattr(module, name) for name in ("fit_network", "fit_flow")}, module.choose_sharpening

    def watched(name):
        def run(*args):
            made[name] = fits[name](*args)
            return made[name]

        return run

    def choose_sharpening(layout, features, *args):
        given.update(layout=layout, features=features)
        return choose(layout, features, *args)

    for name in fits:
        monkeypatch.setattr(module, name, watched(name))
    monkeypatch.setattr(module, "choose_sharpening", choose_sharpening)
    train, model = fit()
    assert model.blend == Blend(global_map=0.5, flow=0.5)
    stages = {"network": made["fit_network"].held_out, "flow": made["fit_flow"].held_out}
    held_out, final = (
        replace(model, sharpening=None, **parts).layout(given["features"]).coords for parts in (stages, {})
    )
    np.testing.assert_allclose(given["layout"], held_out, atol=1e-4)
    assert not np.allclose(given["layout"], final, atol=1e-3)
    again = ipar.tl.predict_coords(train, progress=False, copy=True)  # from what is stored on the AnnData
    assert again.uns["ipar"]["prediction"]["flow_weight"] == 0.5


def test_an_interrupted_flow_is_left_out(fit, monkeypatch, caplog):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit_flow", interrupted)
    with caplog.at_level("WARNING", logger="ipar"):
        model = fit()[1]
    assert model.flow is None
    assert model.blend == Blend(global_map=0.5, flow=0.0)
    assert "the model is without one" in caplog.text


def test_a_fit_without_a_flow_has_none(model):
    assert model.flow is None


def test_the_flows_layout_is_the_clean_guess_from_pure_noise(query, model, generated):
    flow, h = generated.model.flow, model.encoder.transform(*expression_of(query))
    expected, again = (flow.expected_layout(h, Run(seed)) for seed in (0, 7))
    embedding = torch.from_numpy(h)[None]
    graph = graph_of(cosine_candidates(embedding, flow.n_neighbors))
    guesses = []
    with torch.no_grad():
        condition = flow.net.condition(embedding, graph, dense_gate(flow.gate, embedding, graph))
        for seed in range(10, 30):  # other noise than the model draws
            noise = noise_poses((1, len(h)), flow.net.config, torch.Generator().manual_seed(seed))
            guesses.append(flow.net.denoise(condition, noise, torch.zeros(1)).rigid.translation[0].numpy())
    first = guesses[0]
    guesses = [procrustes(first, guess)[1] for guess in guesses]
    gaps = [procrustes(guess, np.mean(guesses, axis=0))[2] for guess in guesses]
    assert procrustes(expected, np.mean(guesses, axis=0))[2] < np.median(gaps)  # four draws leave less noise than one
    assert procrustes(expected, again)[2] < np.median(gaps)


@pytest.mark.parametrize(("n_shared", "n_searches"), [(1, 6), (2, 3), (4, 2)])
def test_layouts_of_a_large_set_share_candidates(generated, monkeypatch, n_shared, n_searches):
    flow = replace(generated.model.flow, set_size=(20, 30))
    embedding = np.random.default_rng(0).normal(size=(60, flow.net.config.d_input)).astype(np.float32)
    calls, search = [], flow_module.thinned_candidates
    monkeypatch.setattr(flow_module, "thinned_candidates", lambda *a: calls.append(a) or search(*a))
    found = flow.sample(embedding, 6, n_steps=1, n_shared=n_shared)
    assert found.coords.shape == (6, 60, 2)
    assert len(calls) == n_searches
    assert len({x.tobytes() for x in found.coords}) == 6  # each has noise of its own


def test_layouts_that_share_nothing_are_refused(generated):
    embedding = np.zeros((60, generated.model.flow.net.config.d_input), np.float32)
    with pytest.raises(ValueError, match="n_shared must be at least 1, found 0"):
        generated.model.flow.sample(embedding, 2, n_shared=0)
