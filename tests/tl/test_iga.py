from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import cKDTree

import ipar
from ipar._run import Run
from ipar.geometry.ellipses import rigid_of_ellipses
from ipar.graph import neighbor_distances
from ipar.metrics import procrustes_error
from ipar.model import Sharpening
from ipar.nn import IGAConfig
from ipar.training import fit as module


@pytest.fixture
def iga(generated):
    """The generative model; nothing may change it."""
    return generated.model


def sampled(adata, model, **options):
    ipar.tl.sample_coords(adata, model, **({"n_samples": 4, "n_steps": 5, "progress": False} | options))
    return adata


def centred(x):
    return x - x.mean(axis=0)


def test_what_is_written(query, iga, unchanged, global_random_state):
    changes = unchanged(query)
    sampled(query, iga)
    assert changes() == {
        *(("obsm", key) for key in ("X_ipar", "X_ipar_samples", "X_ipar_ellipse", "X_ipar_embed")),
        ("obs",),
        ("uns", "ipar"),
    }
    n = query.n_obs
    samples = query.obsm["X_ipar_samples"].reshape(n, 4, 2)
    assert query.obsm["X_ipar"].dtype == samples.dtype == np.float32
    assert query.obsm["X_ipar_ellipse"].shape == (n, 5)
    for layout in (query.obsm["X_ipar"], *samples.transpose(1, 0, 2)):
        np.testing.assert_allclose(layout.mean(0), 0, atol=1e-4)
        assert np.square(layout).sum(1).mean() == pytest.approx(1, abs=1e-3)
    spread = np.sqrt(samples.var(axis=1).sum(-1))
    assert np.allclose(query.obs["ipar_uncertainty"], spread, rtol=1e-4)
    assert query.uns["ipar"]["prediction"]["n_samples"] == 4


def test_samples_are_turned_onto_each_other_and_differ(query, iga):
    samples = sampled(query, iga, n_samples=6).obsm["X_ipar_samples"].reshape(query.n_obs, 6, 2).transpose(1, 0, 2)
    for layout in samples[1:]:
        gap = np.sqrt(np.square(layout - samples[0]).sum(1).mean())
        assert gap > 1e-3
        angle = 0.3
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        mean = samples.mean(0)
        near = np.square(layout - mean).sum()
        assert near < np.square(layout @ turn - mean).sum()
        assert near < np.square(layout * [1, -1] - mean).sum()


def test_point_estimates(query, iga):
    mean = sampled(query, iga, point="mean", sharpen=False).obsm["X_ipar"].copy()
    medoid = sampled(query, iga, point="medoid").obsm["X_ipar"]
    samples = query.obsm["X_ipar_samples"].reshape(query.n_obs, 4, 2).transpose(1, 0, 2)
    gaps = [np.square(samples - one).sum() for one in samples]
    assert np.array_equal(medoid, samples[int(np.argmin(gaps))])
    assert not query.uns["ipar"]["prediction"]["sharpened"]
    average = samples.mean(0)
    assert np.allclose(mean, average / np.sqrt(np.square(average).sum(1).mean()), atol=1e-4)


def test_samples_under_another_key_leave_a_layout_and_its_uncertainty(query, iga):
    sampled(query, iga)
    before = query.obs["ipar_uncertainty"].copy(), query.obsm["X_ipar"].copy(), query.obsm["X_ipar_samples"].copy()
    sampled(query, iga, key_added="X_draws", random_state=1)
    assert query.obs["ipar_uncertainty"].equals(before[0])
    assert np.array_equal(query.obsm["X_ipar"], before[1])
    assert np.array_equal(query.obsm["X_ipar_samples"], before[2])
    samples = query.obsm["X_draws_samples"].reshape(query.n_obs, 4, 2)
    spread = np.sqrt(np.square(samples - samples.mean(1, keepdims=True)).sum(2).mean(1))
    assert np.allclose(query.obs["X_draws_uncertainty"], spread, atol=1e-4)


def test_the_mean_alone_is_sharpened_in_its_frame(query, iga):
    model = replace(iga, sharpening=Sharpening(slide_pc_share=0.4))
    plain = sampled(query.copy(), model, sharpen=False)
    sharp = sampled(query, model)
    assert [one.uns["ipar"]["prediction"]["sharpened"] for one in (plain, sharp)] == [False, True]
    for key in ("X_ipar_samples", "X_ipar_ellipse"):
        assert np.array_equal(sharp.obsm[key], plain.obsm[key])
    assert np.array_equal(sharp.obs["ipar_uncertainty"], plain.obs["ipar_uncertainty"])
    before, after = plain.obsm["X_ipar"], sharp.obsm["X_ipar"]
    assert np.sqrt(np.square(after - before).sum(1).mean()) > 0.01
    left, _, right = np.linalg.svd(after.T @ before)
    assert np.allclose(left @ right, np.eye(2), atol=1e-4)  # nothing is gained by turning either
    own = model.encoder.slide_pcs(query.X, query.var_names, pd.Categorical(["s"] * query.n_obs))
    alike = neighbor_distances(own, None, 8).astype(bool)
    close = [neighbor_distances(x, None, 8, metric="euclidean").astype(bool) for x in (before, after)]
    kept = [alike.multiply(near).nnz for near in close]
    assert kept[1] > kept[0]  # cells alike in expression are neighbours
    none = sampled(query.copy(), replace(iga, sharpening=None))
    assert np.array_equal(none.obsm["X_ipar"], before)


def test_the_sharpening_is_chosen_on_a_slide_that_the_network_has_not_seen(generated, settings, monkeypatch):
    found = {}

    def fit_flow(*args, **options):
        found["fit"] = fitted(*args, **options)
        return found["fit"]

    def choose_sharpening(layout, features, coords, *args):
        found["choice"] = (layout, features.embedding, coords)
        return choose(layout, features, coords, *args)

    fitted, choose = module.fit_flow, module.choose_sharpening
    monkeypatch.setattr(module, "fit_flow", fit_flow)
    monkeypatch.setattr(module, "choose_sharpening", choose_sharpening)
    train, recipe = generated.train.copy(), settings.iga["recipe"]
    recipe = replace(recipe, flow=replace(recipe.flow, refit=True))
    model = ipar.tl.fit_iga(train, "slide", **settings.iga | {"max_epochs": 1, "recipe": recipe})
    held_out = found["fit"].held_out
    assert model.flow is found["fit"].stage is not held_out
    layout, h, coords = found["choice"]
    left = train.obs["slide"] == train.uns["ipar"]["fit"]["validation_slide"]
    read, true = centred(coords), centred(train.obsm["spatial"][left])
    gaps, row = cKDTree(true).query(read)  # a slide is read in an order of its own
    assert gaps.max() < 0.1
    assert sorted(row) == list(range(len(true)))
    tried, n_steps = recipe.flow.n_tried, recipe.flow.n_steps_tried
    assert np.allclose(layout, held_out.sample(h, tried, n_steps=n_steps, run=Run(0)).point("mean"), atol=1e-4)
    assert not np.allclose(layout, model.flow.sample(h, tried, n_steps=n_steps, run=Run(0)).point("mean"), atol=1e-3)
    table = train.uns["ipar"]["fit"]["finish"]
    assert np.isinf(table["hold"].iloc[0])
    assert model.sharpening is None or model.sharpening.hold in set(table["hold"])


def test_it_places_cells_better_than_chance(query, iga):
    sampled(query, iga, n_samples=8, n_steps=10)
    rng = np.random.default_rng(0)
    chance = min(
        procrustes_error(query.obsm["spatial"], rng.permutation(query.obsm["spatial"])).rmse for _ in range(20)
    )
    assert procrustes_error(query.obsm["spatial"], query.obsm["X_ipar"]).rmse < chance - 0.1


def test_seeds_slides_and_row_order(query, iga):
    one, other = sampled(query.copy(), iga), sampled(query.copy(), iga)
    assert np.array_equal(one.obsm["X_ipar_samples"], other.obsm["X_ipar_samples"])
    third = sampled(query.copy(), iga, random_state=1)
    assert not np.allclose(one.obsm["X_ipar_samples"], third.obsm["X_ipar_samples"], atol=1e-3)
    both = ad.concat([query, query], label="half", index_unique="-")
    both.obs["half"] = both.obs["half"].astype("category")
    sampled(both, iga, library_key="half")
    assert np.allclose(both.obsm["X_ipar"][:120], one.obsm["X_ipar"], atol=1e-4)


def test_large_sets_are_one_flow_of_linear_size(generated, iga):
    """Beyond the trained size candidates come from random subsets; layouts remain as good."""
    small = replace(iga, flow=replace(iga.flow, set_size=(40, 60)))  # the query has twice as many
    query = sampled(generated.query.copy(), small, n_samples=8, n_steps=10)
    direct = sampled(generated.query.copy(), iga, n_samples=8, n_steps=10)
    errors = [procrustes_error(one.obsm["spatial"], one.obsm["X_ipar"]).rmse for one in (query, direct)]
    assert errors[0] < errors[1] + 0.15


def test_the_model_is_found_on_the_training_data_also_from_disk(generated, tmp_path):
    train = generated.train.copy()
    sampled(train, None)
    train.write_h5ad(tmp_path / "train.h5ad")
    again = ad.read_h5ad(tmp_path / "train.h5ad")
    sampled(again, None)
    assert np.allclose(again.obsm["X_ipar_samples"], train.obsm["X_ipar_samples"], atol=1e-4)
    assert again.uns["ipar"]["fit"]["attention_geometry"] == "curriculum"


def test_predict_coords_takes_either_model(query, iga, model):
    query = query[:30].copy()
    ipar.tl.predict_coords(query, iga, progress=False)
    assert query.obsm["X_ipar_samples"].shape == (30, 40)
    with pytest.raises(ValueError, match="is an IGA, which has no n_rounds: leave out what it does not have"):
        ipar.tl.predict_coords(query, iga, n_rounds=2, progress=False)
    with pytest.raises(TypeError, match=r"must have a flow.*use ipar\.tl\.predict_coords"):
        ipar.tl.sample_coords(query, model)
    with pytest.raises(ValueError, match="point must be one of .*'medoid'.*found 'best'"):
        sampled(query, iga, point="best")
    with pytest.raises(ValueError, match="n_samples must be at least 1, found 0"):
        sampled(query, iga, n_samples=0)
    with pytest.raises(ValueError, match="No model given"):
        ipar.tl.sample_coords(query)
    with pytest.raises(ValueError, match="At least 5 cells are needed for a layout, found 4"):
        sampled(query[:4].copy(), iga)


def test_a_saved_model_samples_the_same(query, iga, tmp_path):
    iga = replace(iga, sharpening=Sharpening(hold=4.0, slide_pc_share=0.2))
    iga.save(tmp_path / "model")
    loaded = ipar.load(tmp_path / "model")
    assert repr(loaded) == repr(iga)
    assert loaded.flow.net.config == iga.flow.net.config
    for name in ("n_neighbors", "set_size"):
        assert getattr(loaded.flow, name) == getattr(iga.flow, name)
    assert loaded.record == iga.record
    assert loaded.sharpening == iga.sharpening
    one, other = sampled(query.copy(), iga), sampled(query.copy(), loaded)
    assert np.array_equal(one.obsm["X_ipar_samples"], other.obsm["X_ipar_samples"])
    assert np.array_equal(one.obsm["X_ipar"], other.obsm["X_ipar"])
    loaded.save(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_fit_reads_the_ellipses_that_are_there(generated, settings):
    train = generated.train.copy()
    ipar.pp.cell_ellipses(train, library_key="slide")
    options = settings.iga | {"max_epochs": 1}
    with_own = ipar.tl.fit_iga(train, "slide", **options)
    del train.obsm["ellipse"]
    without = ipar.tl.fit_iga(train, "slide", **options)  # the same, by default
    for name, value in with_own.flow.net.state_dict().items():
        assert torch.allclose(value, without.flow.net.state_dict()[name], atol=1e-3)
    with pytest.raises(ValueError, match="max_epochs must be at least 1, found 0"):
        ipar.tl.fit_iga(train, "slide", **settings.iga | {"max_epochs": 0})
    train.obsm["ellipse"] = np.ones((360, 4), dtype=np.float32)
    with pytest.raises(ValueError, match=r"offset_x, .*angle.*found shape \(360, 4\): run ipar\.pp\.cell_ellipses"):
        ipar.tl.fit_iga(train, "slide", **options)
    with pytest.raises(KeyError, match=r"no 'cells': run ipar\.pp\.cell_ellipses"):
        ipar.tl.fit_iga(train, "slide", ellipse_key="cells", **options)


def test_three_dimensions_in_three_out(settings):
    slides = ipar.datasets.smooth_tissue(3, 100, 40, n_dims=3)
    train = slides[slides.obs["slide"] != "slide3"].copy()
    query = slides[slides.obs["slide"] == "slide3"].copy()
    model = ipar.tl.fit_iga(train, "slide", **settings.iga | {"max_epochs": 1})
    del query.obsm["spatial"]
    sampled(query, model)
    assert query.obsm["X_ipar"].shape == (100, 3)
    assert model.sharpening is None
    assert "finish" not in train.uns["ipar"]["fit"]
    assert query.obsm["X_ipar_samples"].shape == (100, 12)
    assert query.obsm["X_ipar_ellipse"].shape == (100, 9)
    table = torch.from_numpy(query.obsm["X_ipar_ellipse"])
    covariance = rigid_of_ellipses(torch.zeros(100, 3), table).to_global()[1]
    assert (torch.linalg.eigvalsh(covariance) > 0).all()


def test_poses_alone_are_fitted_and_sampled(generated, query, settings):
    train = generated.train.copy()
    config = replace(settings.iga["recipe"].flow.config, corrupt_gaussians=False, attention_geometry="clean")
    model = ipar.tl.fit_iga(train, "slide", **settings.iga | {"config": config, "max_epochs": 1})
    history = train.uns["ipar"]["history"]
    assert (history[["local_mean", "scaling"]] == 0).all(axis=None)
    sampled(query, model)
    deviations = query.obsm["X_ipar_ellipse"][:, 2:4]
    assert np.allclose(deviations, deviations[0, 0], rtol=1e-4)


def test_bad_training_data_is_refused(bad_training_in_space, settings):
    bad = bad_training_in_space
    with pytest.raises(bad.error, match=bad.remedy):
        ipar.tl.fit_iga(bad.adata, "slide", **settings.iga)


def test_config_of_another_width_or_dimension_is_adapted(generated):
    assert generated.model.flow.net.config.d_input == generated.train.obsm["X_ipar_embed"].shape[1]
    assert IGAConfig(n_dims=3).to_dict()["n_dims"] == 3
