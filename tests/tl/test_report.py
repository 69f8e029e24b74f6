"""What can be believed of a prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar import pl
from ipar.tl import Doubt, ResemblanceWarning, predict_coords, predict_regions, report


@pytest.fixture
def placed(query, model):
    predict_coords(query, model, progress=False)
    return query


def foreign_of(query, seed=0):
    """The same cells with other names for their genes."""
    rng = np.random.default_rng(seed)
    foreign = query.copy()
    foreign.X = sparse.csr_matrix(query.X)[:, rng.permutation(query.n_vars)]
    return foreign


def test_a_query_of_the_tissue_resembles_and_says_so(placed, model):
    record = placed.uns["ipar"]["prediction"]["resembles_training"]
    assert list(record["resembles"]) == [True]
    assert record["threshold"][0] == model.resemblance.threshold
    assert record["message"][0].startswith("Cells resemble the training slides (distance ")
    assert placed.obs["ipar_belongs"].between(0, 1).all()
    assert 0.2 < placed.obs["ipar_belongs"].mean() < 0.8


def test_a_foreign_query_is_warned_of_and_expects_to_be_wrong(query, placed, model):
    foreign = foreign_of(query)
    with pytest.warns(
        ResemblanceWarning, match=r"do not resemble .*or their values are noise: their coordinates mean"
    ) as said:
        predict_coords(foreign, model, progress=False)
    assert [one.filename for one in said if one.category is ResemblanceWarning] == [__file__]
    assert not foreign.uns["ipar"]["prediction"]["resembles_training"]["resembles"].any()
    assert foreign.obs["ipar_belongs"].median() < 0.1 < placed.obs["ipar_belongs"].median()
    assert foreign.obs["ipar_uncertainty"].mean() > 1.5 * placed.obs["ipar_uncertainty"].mean()
    assert np.isfinite(foreign.obsm["X_ipar"]).all()


def test_another_technology_is_told_from_another_tissue(query, model):
    """The same cells with genes that are detected more or less often."""
    counts = np.expm1(query.X.toarray()) * np.random.default_rng(0).lognormal(0, 1.5, query.n_vars)
    query.X = sparse.csr_matrix(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4), dtype=np.float32)
    with pytest.warns(ResemblanceWarning, match=r"Genes vary together .* call ipar\.tl\.adapt\(model, adata\) first"):
        predict_coords(query, model, progress=False)


def test_slides_are_judged_one_by_one(query, model):
    import anndata as ad

    both = ad.concat({"own": query, "other": foreign_of(query)}, label="batch", index_unique="-")
    with pytest.warns(ResemblanceWarning, match="^'other' do not resemble"):
        predict_coords(both, model, library_key="batch", progress=False)
    record = both.uns["ipar"]["prediction"]["resembles_training"]
    assert dict(zip(record["slide"], record["resembles"], strict=True)) == {"own": True, "other": False}
    alone = query.copy()
    predict_coords(alone, model, progress=False)
    own = both[both.obs["batch"] == "own"]
    np.testing.assert_allclose(own.obs["ipar_belongs"], alone.obs["ipar_belongs"], atol=1e-3)


def test_cells_without_counts_have_no_error_and_do_not_belong(query, model):
    x = query.X.toarray()
    x[:5] = 0
    query.X = sparse.csr_matrix(x)
    with pytest.warns(UserWarning, match="5 of 120 cells have no counts"):
        predict_coords(query, model, progress=False)
    assert query.uns["ipar"]["prediction"]["resembles_training"]["resembles"].all()  # the others do
    for key in ("ipar_uncertainty", "ipar_belongs"):
        assert query.obs[key].isna().to_numpy().nonzero()[0].tolist() == [0, 1, 2, 3, 4]
    assert report(query, model)["cells"]["n_without_counts"] == 5


def test_what_a_report_says(placed, model, unchanged):
    placed.obs["kind"] = pd.Categorical(np.where(np.arange(120) < 40, "x", "y"))
    changes = unchanged(placed)
    found = report(placed, model, groupby="kind")
    assert changes() == set()
    assert found["tissue"]["localisable"] is True
    assert found["genes"] == {"known": 60, "found": 60, "missing": 0}
    assert found["cells"]["n"] == 120
    doubtful = (placed.obs["ipar_uncertainty"] > 0.8) | (placed.obs["ipar_belongs"] < 0.01)
    assert found["cells"]["n_doubtful"] == doubtful.sum()
    table = found["doubtful"]
    assert table.loc["x", "n"] == 40
    assert table.loc["x", "n_doubtful"] == doubtful[:40].sum()
    halves = table.loc[["inner half of the layout", "outer half of the layout"]]
    assert halves["n"].sum() == 120
    controls = found["controls"]
    assert (controls["held-out slides"] > controls["chance"]).all()
    assert found["summary"][0].startswith("The tissue can be localised. On held-out slides")
    assert any("resemble the training slides" in line for line in found["summary"])
    assert found["summary"][-1].startswith(f"{doubtful.sum()} of 120 cells")


def test_values_and_regions_of_a_report(placed, model):
    assert report(placed, model)["coverage"].empty
    predict_regions(placed, model, (0.5, 0.8), progress=False)
    found = report(placed, model)
    np.testing.assert_allclose(found["coverage"]["levels"], [0.5, 0.8])
    assert (found["coverage"]["floors"] < found["coverage"]["levels"]).all()
    values = found["values"]
    assert (values["stored as"] == "logarithms").all()
    np.testing.assert_allclose(values["base"].astype(float), np.e)
    np.testing.assert_allclose(values["median total"].astype(float), 1e4, rtol=1e-3)
    counts = report(placed, model, layer="counts")["values"]
    assert counts.loc["data", "stored as"] == "counts"
    assert counts.loc["data", "largest"] == placed.layers["counts"].max()


def test_limits_of_doubt(placed, model):
    assert report(placed, model, doubt=Doubt(least_belongs=-1, most_error=9))["cells"]["n_doubtful"] == 0
    assert report(placed, model, doubt=Doubt(least_belongs=2))["cells"]["n_doubtful"] == 120


def test_a_report_without_a_prediction(query, model):
    with pytest.raises(KeyError, match="no prediction in obsm\\['X_ipar'\\]: run ipar.tl.predict_coords"):
        report(query, model)


def test_groups_that_are_not_there(placed, model):
    with pytest.raises(KeyError, match="no column 'kind': name a column with groups"):
        report(placed, model, groupby="kind")


def test_the_page_has_all_tables_and_needs_no_other_file(placed, model, tmp_path):
    assert pl.report(placed, model, save=tmp_path / "new" / "report.html") is None
    text = (tmp_path / "new" / "report.html").read_text()
    for words in ("What can be believed", "Doubtful cells", "can be localised", "data:image/png;base64,"):
        assert words in text
    assert "src='http" not in text
    pl.report(placed, model, save=tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert {one.name for one in tmp_path.iterdir()} == {"new", "report.png"}


def test_the_figure(placed, model, tmp_path):
    figure = pl.report(placed, model, return_fig=True)
    drawn = figure.axes[0].collections[0]
    np.testing.assert_allclose(drawn.get_array(), placed.obs["ipar_uncertainty"])
    assert sum(patch.get_height() for patch in figure.axes[2].patches) == 120
    with pytest.raises(ValueError, match=r"must end in \.html or \.png, found 'report\.pdf'"):
        pl.report(placed, model, save=tmp_path / "report.pdf")


def test_samples_are_drawn_for_cells_that_are_compared_too(query, generated):
    from ipar.tl import sample_coords

    sample_coords(query, generated.model, n_samples=2, progress=False)
    assert query.obs["ipar_belongs"].between(0, 1).all()
    assert query.uns["ipar"]["prediction"]["resembles_training"]["resembles"].all()
    foreign = foreign_of(query)
    with pytest.warns(ResemblanceWarning, match="do not resemble"):
        sample_coords(foreign, generated.model, n_samples=2, progress=False)
    assert (foreign.obs["ipar_uncertainty"] < 1.5).all()  # the spread of samples, and no expected error
