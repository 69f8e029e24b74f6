from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.spatial import procrustes

from ipar import _run
from ipar._expression import get_expression
from ipar.metrics import luna_spearman
from ipar.model import Blend, Features, Sharpening
from ipar.model.consensus import ConsensusPlan
from ipar.pp import LocalisabilityWarning, candidates
from ipar.tl import predict_coords
from ipar.tl._attention import quadrant_cells


@pytest.fixture
def direct(model):
    """The model, with all cells of a slide in one pass."""
    return replace(model, network=replace(model.network, plan=ConsensusPlan()))


@pytest.fixture
def place():
    """Predict without a bar; gives the coordinates."""

    def run(adata, *args, **options):
        predict_coords(adata, *args, progress=False, **options)
        return adata.obsm[options.get("key_added", "X_ipar")]

    return run


# sharpening makes hundredths of a radius out of rounding errors, where sums are of other numbers
rounded = pytest.mark.parametrize(("sharpen", "atol"), [(False, 2e-3), (True, 0.05)])


def disparity(a, b):
    """What no rotation, reflection, scale or shift can mend: 0 for one shape, 1 for unrelated ones."""
    return procrustes(a, b)[2]


def test_expected_errors_read_what_left_out_slides_had_too(query, model, place):
    model = replace(model, resemblance=None)
    place(query, model)
    assert "ipar_belongs" not in query.obs
    one = pd.Categorical(np.zeros(query.n_obs, dtype=int))
    features = model.features(query.X, query.var_names, one)
    np.testing.assert_allclose(query.obs["ipar_uncertainty"], model.expected_error(features), rtol=1e-4)
    other = Features(features.embedding, features.embedding[:, model.encoder.global_columns])
    assert not np.allclose(query.obs["ipar_uncertainty"], model.expected_error(other), rtol=1e-3)


def test_what_is_written(query, model, place, unchanged, global_random_state):
    changes = unchanged(query)
    coords = place(query, model)
    assert changes() == {
        ("obsm", "X_ipar"),
        ("obsm", "X_ipar_recycles"),
        ("obsm", "X_ipar_embed"),
        ("obsp", "ipar_candidates_distances"),
        ("obsp", "ipar_candidates_connectivities"),
        ("uns", "ipar_candidates"),
        ("obs",),
        ("uns", "ipar"),
    }
    assert coords.shape == (120, 2)
    assert coords.dtype == np.float32
    np.testing.assert_allclose(coords.mean(0), 0, atol=1e-5)
    assert np.square(coords).sum(1).mean() == pytest.approx(1, abs=1e-4)
    expected = model.features(query.X, query.var_names, pd.Categorical(["all"] * 120)).embedding
    assert np.array_equal(query.obsm["X_ipar_embed"], expected)


def test_the_graph_that_a_prediction_left_out_is_made_later(query, model, place):
    other = query.copy()
    coords, same = place(query, model), place(other, model, graph=False)
    assert np.array_equal(coords, same)
    assert not other.obsp
    assert "ipar_candidates" not in other.uns
    candidates(other, model.network.n_neighbors)
    for name in ("ipar_candidates_distances", "ipar_candidates_connectivities"):
        assert abs(other.obsp[name] - query.obsp[name]).max() < 1e-6


def test_uncertainty_is_that_of_each_slide_by_itself(train, model, place):
    place(train, model, library_key="slide")
    found = train.obs["ipar_uncertainty"]
    assert found.dtype == np.float32
    assert (found > 0).all()
    alone = train[train.obs["slide"] == "b"].copy()
    place(alone, model)
    np.testing.assert_allclose(found[alone.obs_names], alone.obs["ipar_uncertainty"], rtol=0.05)
    place(alone, model, key_added="X_second")
    assert np.array_equal(alone.obs["X_second_uncertainty"], alone.obs["ipar_uncertainty"])


def test_copy_leaves_the_original_alone(query, model, unchanged):
    changes = unchanged(query)
    changed = predict_coords(query, model, copy=True, progress=False)
    assert changes() == set()
    assert predict_coords(query, model, progress=False) is None
    assert np.array_equal(changed.obsm["X_ipar"], query.obsm["X_ipar"])


def test_the_model_is_not_changed(query, model, place):
    before = {name: value.copy() for name, value in model.state()[1].items()}
    settings = model.state()[0]
    place(query, model)
    assert model.state()[0] == settings
    assert all(np.array_equal(value, before[name]) for name, value in model.state()[1].items())


@pytest.mark.parametrize("key", [None, "slide"])
def test_candidates_of_new_cells_are_written(train, model, place, key):
    for name in ("X_ipar_embed", "X_ipar_embed_global"):
        del train.obsm[name]
    del train.uns["ipar_embed"], train.uns["ipar_candidates"]
    place(train, model, library_key=key)
    expected = candidates(train, 40, library_key=key, copy=True)
    for name in ("ipar_candidates_distances", "ipar_candidates_connectivities"):
        assert train.obsp[name].nnz > 0
        assert abs(train.obsp[name] - expected.obsp[name]).max() == 0
    found, params = (one.uns["ipar_candidates"] for one in (train, expected))
    assert found.keys() == params.keys()
    assert found["params"].items() <= params["params"].items()


def test_recycles_are_the_networks_own_and_turned_onto_the_layout(query, direct, place):
    coords = place(query, direct)
    recycles = query.obsm["X_ipar_recycles"]
    assert recycles.shape == (120, 2 * 3)
    assert recycles.dtype == np.float32
    for r in range(3):
        layout = recycles[:, 2 * r : 2 * r + 2].astype(float)
        assert np.square(layout).sum(1).mean() == pytest.approx(1, abs=1e-4)
        u, _, vt = np.linalg.svd(layout.T @ coords)
        np.testing.assert_allclose(u @ vt, np.eye(2), atol=1e-3)  # no turn would bring it nearer
    alone = place(query, direct, global_weight=0.0, flow_weight=0.0, sharpen=False)
    np.testing.assert_allclose(query.obsm["X_ipar_recycles"][:, -2:], alone, atol=1e-4)


def test_an_unseen_slide_is_placed_better_than_by_chance(query, model, direct, place):
    truth = query.obsm["spatial"]
    permuted = np.random.default_rng(0).permutation(truth)
    for one in (model, direct):
        assert luna_spearman(truth, place(query, one)) > luna_spearman(truth, permuted) + 0.2


def test_coordinates_of_the_query_are_not_read(query, model, place):
    expected = place(query.copy(), model)
    scrambled, bare, broken = query.copy(), query.copy(), query.copy()
    scrambled.obsm["spatial"] = np.random.default_rng(0).permutation(query.obsm["spatial"])
    del bare.obsm["spatial"]
    broken.obsm["spatial"] = np.full((120, 5), np.nan)
    for adata in (scrambled, bare, broken):
        assert np.array_equal(place(adata, model), expected)


def test_order_of_cells_does_not_matter(query, direct, place):
    order = np.random.default_rng(0).permutation(120)
    shuffled = query[order].copy()
    expected, found = place(query, direct), place(shuffled, direct)
    np.testing.assert_allclose(found, expected[order], atol=2e-3)
    np.testing.assert_allclose(shuffled.obsm["X_ipar_recycles"], query.obsm["X_ipar_recycles"][order], atol=2e-3)


@rounded
def test_order_of_genes_does_not_matter_nor_do_others(query, model, place, sharpen, atol):
    expected = place(query.copy(), model, sharpen=sharpen)
    shuffled = query[:, np.random.default_rng(0).permutation(60)].copy()
    np.testing.assert_allclose(place(shuffled, model, sharpen=sharpen), expected, atol=atol)
    other = ad.AnnData(sparse.csr_matrix(np.full((120, 30), 1.5, dtype=np.float32)), obs=query.obs)
    other.var_names = [f"other{i}" for i in range(30)]
    more = ad.concat([other, query], axis=1, merge="same")
    np.testing.assert_allclose(place(more, model, sharpen=sharpen), expected, atol=atol)


@rounded
def test_missing_genes_are_counted_and_stand_at_their_mean(query, direct, place, sharpen, atol):
    direct = replace(direct, reference=None)  # without which genes are centred on the mean of the query
    dense = query.X.toarray()
    dense[:, 40:] = dense[:, 40:].mean(0)
    filled = query.copy()
    filled.X = dense
    with pytest.warns(UserWarning, match="20 of the model's 60 genes are missing from the data; they are filled"):
        found = place(query[:, :40].copy(), direct, sharpen=sharpen)
    np.testing.assert_allclose(found, place(filled, direct, sharpen=sharpen), atol=atol)


@pytest.mark.parametrize(("n_genes", "fails"), [(30, False), (29, True), (0, True)])
def test_half_of_the_genes_are_needed(query, model, place, n_genes, fails, unchanged):
    query.var_names = [f"gene{i}" if i < n_genes else f"ENSG{i}" for i in range(60)]
    changes = unchanged(query)
    if not fails:
        with pytest.warns(UserWarning, match="30 of the model's 60 genes are missing"):
            assert np.isfinite(place(query, model)).all()
        return
    with pytest.raises(ValueError, match=rf"Only {n_genes} of the model's 60 genes.*'gene0'.*bring them to one naming"):
        place(query, model)
    assert changes() == set()


@rounded
@pytest.mark.parametrize("which", ["model", "direct"])
def test_slides_are_placed_as_if_alone(train, which, place, request, sharpen, atol):
    model = request.getfixturevalue(which)
    coords = place(train, model, library_key="slide", sharpen=sharpen)
    for name in "abc":
        cells = train.obs["slide"] == name
        alone = train[cells].copy()
        np.testing.assert_allclose(coords[cells], place(alone, model, sharpen=sharpen), atol=atol)
        np.testing.assert_allclose(coords[cells].mean(0), 0, atol=1e-4)
    assert train.uns["ipar"]["prediction"]["library_key"] == "slide"


def test_without_a_slide_column_all_cells_are_one_slide(train, model, place):
    together = place(train.copy(), model)
    assert np.square(together).sum(1).mean() == pytest.approx(1, abs=1e-4)
    assert not np.allclose(together, place(train, model, library_key="slide"), atol=0.1)


def test_the_model_fitted_on_an_anndata_is_found_there(train, model, place, global_random_state):
    expected = place(train.copy(), model, library_key="slide")
    assert np.array_equal(place(train.copy()), expected)  # slide by slide, as it was fitted
    del train.obs["slide"]
    assert np.array_equal(place(train), place(train.copy(), model))


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_the_model_is_found_after_a_round_trip(train, place, tmp_path, suffix):
    expected = place(train)
    path = tmp_path / f"placed.{suffix}"
    getattr(train, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    assert np.array_equal(back.obsm["X_ipar"], expected)
    attention, kept = (one.uns["ipar"]["attention"] for one in (train, back))
    assert attention.keys() == kept.keys()
    assert all(np.array_equal(attention[key], kept[key]) for key in attention)
    record, kept = (one.uns["ipar"]["prediction"] for one in (train, back))
    for table in ("resembles_training", "slides"):
        stored, again = (one.pop(table) for one in (kept, record))
        assert stored.keys() == again.keys()
        assert all(np.array_equal(stored[key], again[key]) for key in again)
    assert dict(kept) == record
    del back.obsm["X_ipar"]
    assert np.array_equal(place(back), expected)


def test_no_model_at_all(query, unchanged):
    changes = unchanged(query)
    with pytest.raises(ValueError, match=r"No model given.*ipar\.tl\.fit_ipalite.*or ipar\.load\(directory\)"):
        predict_coords(query)
    assert changes() == set()


@pytest.mark.parametrize(
    "convert",
    [lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.toarray().astype(np.float64)],
    ids=["dense", "csc", "float64"],
)
def test_any_matrix_gives_the_same_layout(query, model, place, convert):
    expected = place(query.copy(), model)
    query.X = convert(query.X)
    assert np.array_equal(place(query, model), expected)


@rounded
def test_counts_give_what_normalising_first_gives(query, direct, place, unchanged, sharpen, atol):
    expected = place(query.copy(), direct, sharpen=sharpen)
    query.X = query.layers["counts"].astype(np.int32)
    changes = unchanged(query)
    with pytest.warns(UserWarning, match="raw counts"):
        found = place(query, direct, sharpen=sharpen)
    np.testing.assert_allclose(found, expected, atol=max(atol, 5e-3))
    assert ("X",) not in changes()


def test_a_layer_can_be_read(query, model, place):
    expected = place(query.copy(), model)
    query.layers["lognorm"], query.X = query.X, None
    assert np.array_equal(place(query, model, layer="lognorm"), expected)


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
def test_a_view_is_placed_and_its_parent_left_alone(train, model, place, unchanged):
    changes = unchanged(train)
    view = train[train.obs["slide"] == "b"]
    expected = place(view.copy(), model)
    assert np.array_equal(place(view, model), expected)
    assert changes() == set()


def test_a_bad_input_is_named_with_its_remedy_and_nothing_is_lost(bad_query, model, unchanged):
    changes = unchanged(bad_query.adata)
    with pytest.raises(bad_query.error, match=bad_query.remedy):
        predict_coords(bad_query.adata, model, library_key="slide", progress=False)
    assert changes() == set()


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_cells(query, model, place, n):
    with pytest.raises(ValueError, match=f"At least 4 cells are needed for a layout, found {n}"):
        place(query[:n].copy(), model)


@pytest.mark.parametrize("n", [4, 5, 20, 80, 81])
def test_fewer_cells_than_candidates(query, model, place, n):
    few = query[:n].copy()
    assert np.isfinite(place(few, model)).all()
    attention = few.uns["ipar"]["attention"]
    assert (attention["candidates"].sum(1) == min(40, attention["cells"].shape[1] - 1)).all()


@pytest.mark.parametrize("which", ["model", "direct"])
def test_cells_without_counts_are_warned_of_and_stay_finite(query, which, place, request):
    x = query.X.toarray()
    x[:50] = 0
    query.X = sparse.csr_matrix(x)
    with pytest.warns(UserWarning, match=r"50 of 120 cells have no counts.*sc\.pp\.filter_cells"):
        coords = place(query, request.getfixturevalue(which))
    assert np.isfinite(coords).all()


def test_no_counts_at_all(query, model, place):
    query.X = sparse.csr_matrix(query.shape, dtype=np.float32)
    with pytest.warns(UserWarning, match="120 of 120 cells have no counts"):
        assert np.isfinite(place(query, model)).all()


def test_consensus_follows_the_plan(query, model, direct, place):
    plan = model.network.plan
    assert (plan.direct_max, plan.subset_size, plan.n_anchors) == (80, 66, 16)
    coords = place(query, model)
    record = dict(query.uns["ipar"]["prediction"])
    assert list(record.pop("resembles_training")["slide"]) == ["all"]
    slides = record.pop("slides")
    assert (list(slides["slide"]), list(slides["n_cells"])) == (["all"], [120])
    assert len(record.pop("cells_digest")) == 16
    assert record == {
        "method": "consensus",
        "n_rounds": plan.n_rounds,
        "subset_size": 66,
        "global_weight": model.blend.global_map,
        "flow_weight": 0.0,
        "sharpened": model.sharpening is not None,
        "n_genes": 60,
        "n_cells": 120,
        "key_added": "X_ipar",
        "random_state": 0,
        "localisable": True,
    }
    assert np.array_equal(place(query, model), coords)
    assert disparity(place(query, model, random_state=1), coords) < 0.2
    raw = {"global_weight": 0.0, "sharpen": False}
    settled, apart = place(query, model, n_rounds=plan.n_rounds, **raw), {}
    for n in (1, 20):
        apart[n] = [disparity(place(query, model, n_rounds=n, random_state=i, **raw), settled) for i in range(5)]
    assert np.median(apart[1]) > np.median(apart[20]) > 0
    place(query, model, n_rounds=20)
    assert query.uns["ipar"]["prediction"]["n_rounds"] == 20
    assert disparity(place(query, direct), coords) < 0.5
    assert query.uns["ipar"]["prediction"]["method"] == "direct"
    with pytest.raises(ValueError, match="n_rounds must be at least 1, found 0"):
        place(query, model, n_rounds=0)


def test_a_direct_layout_has_no_seed(query, direct, place):
    assert np.array_equal(place(query.copy(), direct), place(query, direct, random_state=7))


def test_seeds(query, model, place):
    drawn = place(query, model, random_state=np.random.default_rng(0))
    seed = query.uns["ipar"]["prediction"]["random_state"]
    assert type(seed) is int
    assert np.array_equal(place(query.copy(), model, random_state=seed), drawn)
    assert not np.array_equal(place(query, model, random_state=None), drawn)


def test_large_slides_and_small_ones_side_by_side(train, model, place):
    part = train[[*range(120), *range(120, 160), *range(240, 244)]].copy()  # 120, 40 and 4 cells
    coords = place(part, model, library_key="slide")
    assert np.isfinite(coords).all()
    assert part.uns["ipar"]["prediction"]["method"] == "consensus"


@pytest.mark.parametrize("which", ["model", "direct"])
def test_attention_rows(query, which, place, request):
    coords = place(query, request.getfixturevalue(which))
    found = query.uns["ipar"]["attention"]
    cells, weights, candidates, chosen = (found[key] for key in ("cells", "weights", "candidates", "query"))
    m = 120 if which == "direct" else 66
    assert cells.shape == candidates.shape == (len(chosen), m)
    assert weights.shape == (len(chosen), 2, 2, m)  # recycles, heads
    assert weights.dtype == np.float32
    assert candidates.dtype == bool
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-4)
    assert weights[~np.broadcast_to(candidates[:, None, None], weights.shape)].max() == 0
    assert (candidates.sum(1) == 40).all()
    for i, cell in enumerate(chosen):
        assert len(set(cells[i])) == m
        assert cell in cells[i]
        assert not candidates[i][cells[i] == cell].any()
    sides = coords[query.obs_names.get_indexer(chosen)] > np.median(coords, axis=0)
    assert len({tuple(side) for side in sides}) == len(chosen) == 4


def test_attention_is_of_the_first_slide_by_position(train, model, place):
    order = np.random.default_rng(0).permutation(360)
    mixed = train[order].copy()
    place(mixed, model, library_key="slide")
    found = mixed.uns["ipar"]["attention"]
    assert set(mixed.obs["slide"].loc[found["cells"].ravel()]) == {"a"}
    assert set(mixed.obs["slide"].loc[found["query"]]) == {"a"}


def test_cells_of_quadrants_are_each_named_once():
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=np.float32)
    assert quadrant_cells(np.r_[corners, 10 * corners]).tolist() in ([0, 1, 2, 3], [4, 5, 6, 7])
    assert len(quadrant_cells(np.zeros((5, 2), dtype=np.float32))) == 1


def test_another_key(query, model, place, unchanged):
    expected = place(query.copy(), model)
    changes = unchanged(query)
    assert np.array_equal(place(query, model, key_added="X_second"), expected)
    assert {("obsm", "X_second"), ("obsm", "X_second_recycles")} <= changes()
    assert "X_ipar" not in query.obsm
    assert query.uns["ipar"]["prediction"]["key_added"] == "X_second"


def test_the_record_of_a_fit_is_kept(train, model, place):
    before = set(train.uns["ipar"])
    embedding = train.obsm["X_ipar_embed"].copy()
    place(train, model, library_key="slide")
    assert set(train.uns["ipar"]) == before | {"attention", "prediction"}
    assert np.array_equal(train.obsm["X_ipar_embed"], embedding)  # cross-fitted: a further fit relies on it


def test_a_model_of_a_tissue_that_cannot_be_localised_warns_with_the_figures(query, model, place):
    verdict = {"localisable": False, "explained": 0.041, "distance_spearman": 0.0512, "recall_ratio": 1.349}
    with pytest.warns(LocalisabilityWarning, match=r"explains 4%.*at 0\.05.*1\.3 times.*mean nothing") as caught:
        place(query, replace(model, record={"localisability": verdict}))
    assert caught[0].filename == __file__
    assert query.uns["ipar"]["prediction"]["localisable"] is False


def test_a_device_that_is_not_there(query, model, place, unchanged):
    changes = unchanged(query)
    with pytest.raises(ValueError, match="Device 'abacus' is not available.*use device='auto' or 'cpu'"):
        place(query, model, device="abacus")
    assert changes() == set()


def test_networks_return_from_another_device(query, model, place, monkeypatch):
    moved = []
    monkeypatch.setattr(_run, "get_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: moved.append((self, str(device))) or self)
    place(query, model, sharpen=False)  # which takes its tensors there
    for module in model.modules:
        assert [where for one, where in moved if one is module] == ["cuda", "cpu"]


def test_weight_of_the_global_map(query, model, place):
    # from the network's layout alone to the global map alone
    model = replace(model, sharpening=None)
    coords = {weight: place(query.copy(), model, global_weight=weight) for weight in (0.0, 0.5, 1.0)}
    half = replace(model, blend=Blend(0.5))
    assert np.array_equal(coords[0.5], place(query.copy(), half))  # the model's own weight
    one = pd.Categorical(["all"] * query.n_obs)
    far = model.features(query.X, query.var_names, one).global_features.astype(float)
    u, s, _ = np.linalg.svd(far - far.mean(0), full_matrices=False)
    global_map = u[:, :2] * s[:2]
    assert disparity(global_map, coords[1.0]) == pytest.approx(0, abs=1e-6)
    assert 0 < disparity(global_map, coords[0.5]) < disparity(global_map, coords[0.0])
    alone = place(query.copy(), replace(model, blend=Blend(0.0)))
    assert np.array_equal(alone, coords[0.0])


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_that_is_no_share(query, model, weight):
    with pytest.raises(ValueError, match=r"global_weight must lie between 0 and 1, found"):
        predict_coords(query, model, global_weight=weight, progress=False)


def test_sharpening_seeks_as_many_cells_as_in_the_fit_whatever_the_candidates(fitted):
    """The one search of a prediction is wide enough for both."""
    few = replace(fitted.model, network=replace(fitted.model.network, n_neighbors=5), sharpening=Sharpening())
    query = fitted.query.copy()
    predict_coords(query, few, progress=False)
    cells = (get_expression(query).matrix, query.var_names, pd.Categorical(["a"] * query.n_obs))
    features, slide_pcs = few.features(*cells), few.encoder.slide_pcs(*cells)
    np.testing.assert_allclose(query.obsm["X_ipar"], few.layout(features, slide_pcs).coords, atol=1e-5)
    assert set(np.diff(query.obsp["ipar_candidates_distances"].indptr)) == {5}
