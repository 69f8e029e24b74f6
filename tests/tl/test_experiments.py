"""Diagnostics and experiments on AnnData: what is written, what is read, and what training must never see."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

import ipar
from ipar.nn import IPALiteConfig
from ipar.tl import ablate_terms, attention_diagnostics, decompose_gap, shuffle_controls, sweep_beta
from ipar.training.minisets import sample_minisets
from ipar.training.validation import sweep_beta as sweep_on_arrays
from ipar.training.validation import validate

QUICK = {"n_minisets": 3, "progress": False}
EXPERIMENTS = {"gap": decompose_gap, "shuffle_controls": shuffle_controls, "beta_sweep": sweep_beta}
NEEDS_TRUTH = {"attention_recall", "attention_recall_chance", "gate_precision", "gate_recall"}


@pytest.fixture
def two(make_slides):
    """Two slides that the model never saw."""
    return make_slides(("d", "e"), seed=1)


def held_out_sets(model, adata, n=3):
    """The minisets of a slide, drawn without the shell."""
    slides = pd.Categorical(["all"] * adata.n_obs)
    h = torch.from_numpy(model.features(adata.X, adata.var_names, slides).embedding)
    x = adata.obsm["spatial"]
    x = torch.from_numpy((x - x.mean(0)).astype(np.float32))
    return sample_minisets([h], [x], n, size=(20, 80), n_neighbors=model.network.n_neighbors, random_state=0)


def test_diagnostics_are_written_slide_by_slide(two, model, unchanged, tmp_path, global_random_state):
    changes = unchanged(two)
    assert attention_diagnostics(two, model, library_key="slide", **QUICK) is None
    assert changes() == {("uns", "ipar")}
    table = two.uns["ipar"]["diagnostics"]
    assert list(table) == ["slide", "measure", "recycle", "head", "value", "sd", "n_sets"]
    assert set(table["slide"]) == {"d", "e"}
    assert (table["n_sets"] == 3).all()
    assert set(table["measure"]) >= NEEDS_TRUTH
    two.write_h5ad(tmp_path / "two.h5ad")
    back = ad.read_h5ad(tmp_path / "two.h5ad").uns["ipar"]["diagnostics"]
    pd.testing.assert_frame_equal(back, table, check_dtype=False, check_index_type=False)


def test_a_bar_that_is_redrawn_at_every_step_changes_nothing(two, model, monkeypatch):
    quiet = attention_diagnostics(two, model, library_key="slide", copy=True, **QUICK)
    redrawn, update = [], tqdm.update

    def redraw(bar, n=1):
        update(bar, n)
        redrawn.append(n)
        return True  # as tqdm says where it has drawn the bar

    monkeypatch.setattr(tqdm, "update", redraw)
    shown = attention_diagnostics(two, model, library_key="slide", copy=True, **QUICK | {"progress": True})
    assert len(redrawn) == 2 * QUICK["n_minisets"]
    assert shown.uns["ipar"]["diagnostics"].equals(quiet.uns["ipar"]["diagnostics"])


def test_diagnostics_do_not_depend_on_coordinates_but_where_they_are_compared(query, model):
    known = attention_diagnostics(query, model, copy=True, **QUICK).uns["ipar"]["diagnostics"]
    assert "ipar" not in query.uns
    expected = known[~known["measure"].isin(NEEDS_TRUTH)].reset_index(drop=True)
    without = query.copy()
    del without.obsm["spatial"]
    for blind, key in ((without, "spatial"), (query, None)):
        table = attention_diagnostics(blind, model, spatial_key=key, copy=True, **QUICK).uns["ipar"]["diagnostics"]
        assert table.equals(expected)
    query.obsm["spatial"] = np.random.default_rng(0).random((120, 2))
    attention_diagnostics(query, model, **QUICK)
    moved = query.uns["ipar"]["diagnostics"]
    assert moved[~moved["measure"].isin(NEEDS_TRUTH)].reset_index(drop=True).equals(expected)
    assert not moved.equals(known)


def test_the_model_that_was_fitted_on_an_adata_is_found(train, model, query):
    attention_diagnostics(train, **QUICK)
    assert set(train.uns["ipar"]["diagnostics"]["slide"]) == {"a", "b", "c"}
    with pytest.raises(ValueError, match="No model given"):
        attention_diagnostics(query, **QUICK)


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_experiments_write_what_they_return(key, two, model, unchanged, tmp_path, global_random_state):
    changes = unchanged(two)
    run = EXPERIMENTS[key]
    table = run(two, model, library_key="slide", **QUICK)
    assert changes() == {("uns", "ipar")}
    assert table.equals(two.uns["ipar"][key])
    assert set(table["slide"]) == {"d", "e"}
    assert np.isfinite(table["e_geo"]).all()
    assert run(two, model, library_key="slide", **QUICK).equals(table)
    assert not run(two.copy(), model, library_key="slide", random_state=1, **QUICK).equals(table)
    two.write_h5ad(tmp_path / "two.h5ad")
    back = ad.read_h5ad(tmp_path / "two.h5ad").uns["ipar"][key]
    pd.testing.assert_frame_equal(back, table, check_dtype=False, check_index_type=False)


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_experiments_need_coordinates(key, query, model):
    del query.obsm["spatial"]
    with pytest.raises(KeyError, match="no 'spatial'.*spatial_key"):
        EXPERIMENTS[key](query, model, **QUICK)


@pytest.mark.parametrize("run", [attention_diagnostics, *EXPERIMENTS.values()])
def test_no_minisets(run, query, model):
    with pytest.raises(ValueError, match="n_minisets must be at least 1, found 0"):
        run(query, model, n_minisets=0, progress=False)


def test_gap_and_sweep_are_the_energies_of_the_minisets(query, model):
    sets = held_out_sets(model, query)
    gap = decompose_gap(query, model, **QUICK).groupby("condition")["e_geo"].mean()
    net, gate = model.network.net, model.network.gate
    expected = validate(net, gate, sets, beta=model.network.beta)
    assert tuple(gap[["target edges", "gated candidates"]]) == pytest.approx(expected, rel=1e-4)
    betas = (0.0, 1.0, 4.0)
    sweep = sweep_beta(query, model, betas=betas, **QUICK)
    assert sweep["beta"].tolist() == list(betas)
    assert sweep["e_geo"].tolist() == pytest.approx(sweep_on_arrays(net, gate, sets, betas), rel=1e-4)
    assert sweep["e_geo"].iloc[0] == pytest.approx(gap["all candidates"], rel=1e-4)  # β = 0 is no gate
    with pytest.raises(ValueError, match="betas must hold at least one weight"):
        sweep_beta(query, model, betas=(), **QUICK)


def test_ratios_are_to_the_same_miniset_intact(query, model):
    table = shuffle_controls(query, model, **QUICK)
    wide = table.pivot(index="miniset", columns="condition", values=["e_geo", "ratio"])
    for name in table["condition"].unique():
        np.testing.assert_allclose(wide["ratio"][name], wide["e_geo"][name] / wide["e_geo"]["intact"])
    assert wide["ratio"]["shuffled"].mean() > 1.2  # even two epochs read the embedding


@pytest.fixture(scope="module")
def ablated(fitted, tune):
    """An ablation on embedded slides, and the slide that it was scored on."""
    query, train = fitted.query.copy(), fitted.train.copy()
    settings = {
        "config": IPALiteConfig.d7(d_state=12, n_heads=2, d_head=6, n_recycles=2),
        **tune(training=ipar.training.IPALiteTraining(gate_steps=5, lr=2e-3), n_minisets=3, size=(48, 60)),
        "max_epochs": 1,
        "n_test_minisets": 2,
        "progress": False,
    }
    return query, train, settings, ablate_terms(query, train, "slide", **settings)


def test_ablation_leaves_one_term_out_at_a_time(ablated, fitted):
    query, train, _, table = ablated
    assert table["without"].tolist() == ["none", "qk", "geometry", "gate"]
    assert table.equals(query.uns["ipar"]["ablation"])
    assert table["delta"].iloc[0] == 0
    np.testing.assert_allclose(table["delta"], table["e_geo"] - table["e_geo"].iloc[0])
    assert table["e_geo"].nunique() == 4
    # the training slides keep the model they had
    assert train.uns["ipar"]["model"]["config"] == fitted.train.uns["ipar"]["model"]["config"]


def test_coordinates_of_held_out_slides_change_no_network_of_an_ablation(ablated, monkeypatch):
    query, train, settings, table = ablated
    made = []
    real = ipar.tl._ablate.fit_ipalite
    monkeypatch.setattr("ipar.tl._ablate.fit_ipalite", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    results = []
    for spoil in (False, True):
        other = query.copy()
        if spoil:
            other.obsm["spatial"] = np.random.default_rng(0).random((120, 2))
        results.append(ablate_terms(other, train, "slide", terms=["gate"], **settings))
    assert results[0]["e_geo"].tolist() == pytest.approx(table["e_geo"].iloc[[0, 3]].tolist())
    assert not np.allclose(results[0]["e_geo"], results[1]["e_geo"])
    for one, other in zip(made[:2], made[2:], strict=True):
        for a, b in zip(one.network.net.parameters(), other.network.net.parameters(), strict=True):
            assert torch.equal(a, b)


def test_ablation_refuses_slides_that_were_trained_on_and_terms_that_are_not_there(fitted, ablated):
    settings = ablated[2]
    train = fitted.train.copy()
    with pytest.raises(ValueError, match=r"found \['c'\] in obs.*remove these slides from train"):
        ablate_terms(train[train.obs["slide"] == "c"].copy(), train, "slide", **settings)
    with pytest.raises(ValueError, match="term must be one that the config has.*found 'pair'"):
        ablate_terms(fitted.query.copy(), train, "slide", terms=["pair"], **settings)


@pytest.mark.parametrize("supervision", ["T2", "mix"])
def test_gate_supervision_is_stored_with_the_model(train, settings, tune, supervision, tmp_path):
    config = replace(settings.fit["recipe"].network.config, gate_supervision=supervision)
    options = settings.fit | tune(n_minisets=3) | {"config": config, "max_epochs": 1}
    model = ipar.tl.fit_ipalite(train, "slide", **options)
    model.save(tmp_path / "model")
    assert ipar.load(tmp_path / "model").network.net.config.gate_supervision == supervision
