"""The page on SpatialData, squidpy and scanpy: its code runs on what ipar writes, and says what it should."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import spatialdata as sd
import squidpy as sq
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity

import ipar
from tests.spatial.conftest import cells_as_circles

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "downstream.md").read_text()


def run(title, **names):
    """Run the code of a section of the page."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)[1]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert blocks
    exec("\n".join(blocks), names)


@pytest.fixture
def placed(fitted, monkeypatch):
    """Two slides with labels of the two halves of the tissue, placed by the model."""
    monkeypatch.setattr(plt, "show", lambda *_, **__: None)  # there is no window to open
    if not hasattr(sq.gr, "spatial_neighbors_knn"):
        monkeypatch.setattr(sq.gr, "spatial_neighbors_knn", sq.gr.spatial_neighbors, raising=False)
    adata = fitted.train[fitted.train.obs["slide"] != "c"].copy()
    ipar.tl.predict_coords(adata, fitted.model, library_key="slide", progress=False)
    first = adata.obs["slide"] == "a"
    side = adata.obsm["X_ipar_embed"][:, 0]
    adata.obs["type"] = pd.Categorical(np.where(side > np.median(side[first]), "p", "q"))
    yield adata
    plt.close("all")


def test_squidpy(placed):
    run("squidpy", adata=placed)
    graph = placed.obsp["ipar_connectivities"]
    slides = placed.obs["slide"].to_numpy()
    rows, columns = graph.nonzero()
    assert (slides[rows] == slides[columns]).all()
    score = placed.uns["type_nhood_enrichment"]["zscore"]
    assert np.diag(score).min() > 2 > -2 > score[0, 1]  # types that lie apart
    found = placed.uns["moranI"]["I"].sort_index()
    sq.gr.spatial_neighbors_knn(placed, library_key="slide", n_neighs=6)
    sq.gr.spatial_autocorr(placed, mode="moran")
    assert found.corr(placed.uns["moranI"]["I"].sort_index(), method="spearman") > 0.5


def test_scanpy(placed):
    run("scanpy", adata=placed, ipar=ipar)
    assert np.isfinite(placed.obsm["X_umap"]).all()
    crossing = placed.obs.groupby("leiden", observed=True)["slide"].nunique()
    assert (crossing == 1).all()
    sc.pl.embedding(placed, basis="ipar", color="type")  # scanpy's short form of the key


def test_spatialdata(query, model, tmp_path):
    sdata = cells_as_circles(query).sdata
    pixels = np.random.default_rng(0).random((3, 40, 40))
    sdata["he_image"] = Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations={"global": Identity()})
    sdata.write(tmp_path / "cells.zarr")
    run("SpatialData", sdata=sdata, model=model, ipar=ipar)
    plt.close("all")
    sdata.write_element("ipar")
    points = sd.read_zarr(tmp_path / "cells.zarr")["ipar"].compute()
    assert np.allclose(points[["x", "y"]], sdata["table"].obsm["X_ipar"])
    assert sdata["table"].uns["ellipse"]["method"] == "shapes"
