from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from benchmarks.dissociated import controls, impute, ours, peers, run, scores, tasks
from benchmarks.dissociated.scores import Canvas, Half, Layers, Placed
from benchmarks.peers import run as peers_run
from ipar import metrics

N_SPOTS, N_CELLS, N_GENES = 150, 90, 60
DATA = Path(os.environ.get("IPAR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def expression(place, rng):
    """Log expression that tells the place."""
    waves = np.random.default_rng(1).normal(size=(2, N_GENES))
    values = np.exp(np.sin(place @ waves) + rng.normal(size=(len(place), N_GENES)) / 10)
    return sparse.csr_matrix(np.log1p(values), dtype=np.float32)


@pytest.fixture(scope="module")
def given():
    """Cells of a suspension, and a section far from the origin."""
    rng = np.random.default_rng(0)
    where, cells = rng.uniform(-1, 1, (N_SPOTS, 2)), rng.uniform(-1, 1, (N_CELLS, 2))
    names = pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
    section = ad.AnnData(expression(where, rng), var=names, obsm={"spatial": 500 * where + 3000})
    truth = Canvas(500 * cells + 3000, np.arange(N_CELLS) % 3 == 0)
    return tasks.Dissociated(section, ad.AnnData(expression(cells, rng), var=names), truth, np.arange(N_CELLS))


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Options of a run of the peer moscot, whose environment is this one; every spot gets as much of the cells."""
    monkeypatch.setattr(peers_run, "HERE", tmp_path)
    monkeypatch.setattr(peers, "environment", lambda peer, folder: Path(sys.executable))
    (tmp_path / "exchange.py").write_text((Path(peers_run.__file__).parent / "exchange.py").read_text())
    script = """
from exchange import mapped, serve

def place(data, seed):
    x, coords = data.reference(seed)
    alike = 1 / (1e-9 + ((data.query[:, None] - x[None]) ** 2).sum(2)) ** 4
    return mapped(alike / alike.sum(0), coords)

serve(place)
"""
    (tmp_path / "place_moscot.py").write_text(script)
    return argparse.Namespace(environments=tmp_path, threads=1)


@pytest.mark.parametrize("name", [name for name in controls.CONTROLS if name != "any_spot"])
def test_controls_place_cells_in_the_frame_of_the_section(given, name):
    chance = given.truth.scored(controls.any_spot(given, 0), given.rows)["mixed_median"]
    found = controls.CONTROLS[name](given, 0)
    assert found.coords.shape == (N_CELLS, 2)
    assert given.truth.scored(found, given.rows)["mixed_median"] < chance / 2


@pytest.mark.parametrize("name", [name for name in controls.CONTROLS if name != "any_spot"])
def test_controls_do_not_depend_on_the_order_of_cells(given, name):
    turned = given.cells[::-1].copy()
    again = controls.CONTROLS[name](tasks.Dissociated(given.section, turned, given.truth, given.rows), 0)
    np.testing.assert_allclose(again.coords[::-1], controls.CONTROLS[name](given, 0).coords, atol=1e-2)


def test_a_subset_keeps_cells_and_truth_together(given):
    some = given.some(20, 0)
    assert some.cells.n_obs == len(some.rows) == 20
    np.testing.assert_array_equal(some.cells.X.toarray(), given.cells.X.toarray()[some.rows])
    assert given.some(N_CELLS, 0) is given


def test_a_peer_is_brought_back_to_the_frame_of_the_section(given, options):
    found = peers.place_with_peer("moscot", given, 0, options)
    errors = given.truth.scored(found, given.rows)
    chance = given.truth.scored(controls.any_spot(given, 0), given.rows)
    assert errors["mixed_median"] < chance["mixed_median"] / 2
    assert found.confidence.shape == (N_CELLS,)
    spots = {tuple(spot) for spot in tasks.places(given.section)}
    assert {tuple(spot) for spot in found.likeliest} <= spots
    assert found.extra["seconds"] > 0


def test_what_a_peer_gets_holds_no_truth(given):
    exchange = peers.exchanged(given.section, given.cells)
    assert len(exchange.x) == len(exchange.coords) == N_SPOTS
    np.testing.assert_allclose(np.square(exchange.coords).sum(axis=1).mean(), 1, rtol=1e-4)
    back = peers.in_frame(exchange.coords, tasks.places(given.section))
    np.testing.assert_allclose(back, given.section.obsm["spatial"], atol=1e-2)


def test_depth_is_found_in_any_direction_and_its_sign_by_the_section():
    rng = np.random.default_rng(0)
    rank, across = rng.integers(0, 3, 200).astype(float), rng.normal(size=200)
    coords = np.column_stack([across, -rank])
    truth = Layers(np.where(np.arange(200) < 180, rank, np.nan), np.array([0.0, -1.0]))
    found = truth.scored(Placed(coords), np.arange(200))
    assert found["depth_fitted"] == pytest.approx(1)
    assert found["depth_section"] == pytest.approx(1)
    assert truth.scored(Placed(-coords), np.arange(200))["depth_section"] == pytest.approx(-1)
    assert truth.scored(Placed(np.zeros((200, 2))), np.arange(200))["depth_fitted"] == 0


def test_order_and_foreign_cells_are_told():
    groups, foreign = np.repeat([0, 1, 2, -1], 10), np.repeat([False, False, False, True], 10)
    rank = np.repeat([0.0, 1.0, np.nan, np.nan], 10)
    truth = Layers(rank, np.array([1.0, 0.0]), groups, foreign)
    coords = np.column_stack([np.repeat([1.0, 2.0, 3.0, 0.0], 10), np.zeros(40)])
    found = truth.scored(Placed(coords, np.where(foreign, 0.1, 0.9)), np.arange(40))
    assert (found["in_order"], found["kendall"]) == (1.0, pytest.approx(1))
    assert found["auroc_neurons"] == found["auroc_all"] == 1
    other = truth.scored(Placed(-coords), np.arange(40))
    assert (other["in_order"], other["kendall"]) == (0.0, pytest.approx(-1))
    assert "auroc_all" not in other


def test_errors_are_those_of_unseen_cells_apart():
    truth = Canvas(np.zeros((4, 2)), np.array([True, True, False, False]))
    found = truth.scored(Placed(np.array([[1.0, 0], [1, 0], [0, 3], [0, 5]])), np.arange(4))
    expected = {"leaked_share": 0.5, "leaked_median": 1, "unseen_median": 4, "unseen_mean": 4, "mixed_median": 2}
    assert {name: found[name] for name in expected} == expected


def test_errors_of_a_half_are_in_radii_of_its_frame():
    coords = np.random.default_rng(0).normal(size=(80, 2)) * 50
    found = Half(coords, 25.0).scored(Placed(coords + [50.0, 0.0]), np.arange(80))
    assert found["error_median"] == pytest.approx(2)
    assert found["luna_spearman"] == pytest.approx(metrics.luna_spearman(coords, coords))


def test_a_row_that_names_one_spot_is_the_most_certain():
    plan = np.array([[0, 3, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(scores.row_certainty(plan), -np.log([1, 2, 4]), atol=1e-9)
    np.testing.assert_allclose(scores.row_certainty(plan / 7), scores.row_certainty(plan))


@pytest.fixture(scope="module")
def counts():
    """A section and cells, counts, both of strips that differ in all genes."""
    rng = np.random.default_rng(0)
    rates = rng.lognormal(1.0, 1.0, (6, N_GENES))
    names = pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
    found = []
    for n in (N_SPOTS, 300):
        strip = np.arange(n) % 6
        one = ad.AnnData(sparse.csr_matrix(rng.poisson(rates[strip]), dtype=np.float32), var=names)
        one.obsm["spatial"] = np.column_stack([strip + rng.uniform(size=n), rng.uniform(size=n)])
        found.append(one)
    return found


def test_hidden_genes_reach_neither_totals_nor_the_section(counts):
    section, cells = counts
    genes = impute.hidden(section, cells, 0)
    changed = section.copy()
    changed.X = changed.X.multiply(np.where(changed.var_names.isin(genes), 5, 1)).tocsr()
    kept = ~section.var_names.isin(genes)
    one, other = (tasks.normalised(side, cells, hidden=genes)[0][:, kept].X.toarray() for side in (section, changed))
    np.testing.assert_array_equal(one, other)


def test_cells_carry_no_place_and_no_name(counts):
    bare = tasks.normalised(*counts)[1]
    assert not bare.obsm
    assert not len(bare.obs.columns)
    assert list(bare.obs_names[:2]) == ["row0", "row1"]


@pytest.fixture(scope="module")
def held_out(counts):
    genes = impute.hidden(*counts, 0)
    known, cells = tasks.normalised(*counts, hidden=genes)
    measured = known[:, list(genes)].X.toarray()
    return impute.Imputation(known[:, ~known.var_names.isin(genes)].copy(), cells, genes, measured)


def test_hidden_genes_are_told_by_like_cells_and_not_by_any(held_out):
    assert not set(held_out.genes) & set(held_out.section.var_names)
    assert held_out.scored(impute.nearest_cells(held_out, 0))["pearson_median"] > 0.6
    assert abs(held_out.scored(impute.any_cells(held_out, 0))["pearson_median"]) < 0.2
    assert held_out.scored(np.zeros_like(held_out.measured))["pearson_median"] == 0


def test_a_mapping_peer_deals_out_hidden_genes(held_out, options):
    found, cost = peers.impute_with_peer("moscot", held_out.section, held_out.seen, held_out.values, 0, options)
    assert held_out.scored(found)["pearson_median"] > 0.3
    assert set(cost) == {"seconds", "peak_gib"}


@pytest.fixture
def called(monkeypatch):
    """Names of ipar's tools as they are called; stand-ins give every cell to the first spot."""
    names = []

    def tool(name, result):
        def stand_in(*args, **options):
            names.append(name)
            return result(*args, **options)

        monkeypatch.setattr(ours.ipar.tl, name, stand_in, raising=False)

    def predict(cells, model, reference, **options):
        assert reference == ours.SECTION
        cells.obsm["X_ipar_reference"] = np.tile(model.obsm["spatial"][:1], (cells.n_obs, 1))
        cells.obs["ipar_map_similarity"] = np.linspace(0, 1, cells.n_obs)

    tool("fit_ipalite", lambda section, library_key, **options: section)
    tool("adapt", lambda model, cells: model)
    tool("predict_coords", predict)
    tool(
        "impute",
        lambda section, cells, model, genes: ad.AnnData(
            np.ones((section.n_obs, len(genes))), var=pd.DataFrame(index=genes)
        ),
    )
    return names


@pytest.mark.parametrize(("method", "adapted"), [("ipar", True), ("ipar_no_adapter", False)])
def test_ipar_places_in_the_frame_of_the_section(given, called, method, adapted):
    found = ours.PLACE[method](given, 0)
    np.testing.assert_array_equal(found.coords, np.tile(tasks.places(given.section)[:1], (N_CELLS, 1)))
    np.testing.assert_allclose(found.confidence, np.linspace(0, 1, N_CELLS))
    assert ("adapt" in called) == adapted


def test_ipar_gives_the_hidden_genes_in_their_order(held_out, called):
    found = ours.IMPUTE["ipar"](held_out.section, held_out.cells, held_out.genes, 0)
    assert found.shape == held_out.measured.shape
    assert called == ["fit_ipalite", "adapt", "impute"]


def test_every_method_is_run_on_the_tasks_that_it_can_do():
    options = argparse.Namespace(tasks=["mop", "impute_mop"], methods=list(run.METHODS), seeds=[0])
    found = run.jobs(options)
    assert {method for task, method, _ in found if task == "mop"} == set(run.PLACING)
    assert {method for task, method, _ in found if task == "impute_mop"} == set(run.IMPUTING)


@pytest.mark.real
@pytest.mark.skipif(not (DATA / "mouse_mop_sc20k.h5ad").is_file(), reason="no real data beside the project")
def test_look_ups_reach_the_figures_that_came_with_the_data():
    mop, e1z2 = tasks.mop(DATA, 0), tasks.e1z2(DATA, 0)
    assert mop.truth.scored(controls.ten_best(mop, 0), mop.rows)["depth_fitted"] == pytest.approx(0.87, abs=0.01)
    errors = e1z2.truth.scored(controls.nearest_spot(e1z2, 0), e1z2.rows)
    assert errors["unseen_median"] == pytest.approx(8.1, abs=0.3)
    assert errors["unseen_mean"] == pytest.approx(18.4, abs=0.3)
    json.dumps(errors)
