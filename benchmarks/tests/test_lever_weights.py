from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse

import lever_axes
import lever_spots
import lever_weights
import tasks
from ipar._expression import Expression
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import overview_of

GENES = pd.Index([f"g{i}" for i in range(30)])


def cells(seed):
    rng = np.random.default_rng(seed)
    x = rng.random((80, 2)).astype(np.float32)
    values = np.maximum(np.cos(x @ rng.normal(size=(2, 30)) * 4) + rng.normal(size=(80, 30)) / 4, 0)
    return sparse.csr_matrix(values.astype(np.float32)), x


def test_only_the_weights_of_genes_differ(monkeypatch, hasty_recipe):
    monkeypatch.setattr(lever_weights, "EncoderRecipe", lambda: hasty_recipe)
    known, query = [Slide(*cells(i), f"s{i}") for i in range(2)], Expression(cells(9)[0], GENES)
    found = dict(lever_weights.layouts(known, query, 0))
    assert list(found) == [
        "all genes alike",
        "all genes alike, sharpened",
        "genes by place",
        "genes by place, sharpened",
    ]
    one = pd.Categorical(np.zeros(80, dtype=np.int8))
    for name, weigh in (("all genes alike", False), ("genes by place", True)):
        recipe = replace(hasty_recipe, n_pcs=30, weigh_genes=weigh, spatial_share=0.0)
        alone = fit_encoder(known, GENES, ["both"], recipe, overview=True)["both"]
        np.testing.assert_allclose(found[name], overview_of(alone.views(query.matrix, GENES, one).across), atol=1e-4)
    assert not np.allclose(found["all genes alike"], found["genes by place"], atol=1e-3)


def test_half_of_the_axes_are_spatial_where_a_row_says_so(monkeypatch, hasty_recipe):
    recipe = replace(hasty_recipe, n_pcs=(6, 8))
    monkeypatch.setattr(lever_weights, "EncoderRecipe", lambda: recipe)
    known, query = [Slide(*cells(i), f"s{i}") for i in range(2)], Expression(cells(9)[0], GENES)
    found = dict(lever_weights.layouts(known, query, 0, lever_axes.WAYS))
    (name,) = lever_axes.WAYS
    assert list(found) == [name, f"{name}, sharpened"]
    one = pd.Categorical(np.zeros(80, dtype=np.int8))
    alone = fit_encoder(known, GENES, ["both"], replace(recipe, n_pcs=6, spatial_share=0.5), overview=True)["both"]
    np.testing.assert_allclose(found[name], overview_of(alone.views(query.matrix, GENES, one).across), atol=1e-4)


def test_rows_are_named_by_what_teaches(monkeypatch):
    matrix, truth = cells(5)
    obs = pd.DataFrame({"slide": ["a"] * 40 + ["b"] * 40}, index=[str(i) for i in range(80)])
    query = tasks.ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=GENES), obsm={"spatial": truth})
    monkeypatch.setattr(tasks, "load", lambda fold, data: tasks.Slides(query, query, truth))
    monkeypatch.setattr(
        lever_weights, "layouts", lambda known, asked, seed, *_: iter([("one", truth[-asked.matrix.shape[0] :])])
    )
    two = tasks.Task("two", "", "", ("a", "b"), "")
    scores = ("luna_spearman",)
    assert list(lever_weights.measure(two, 0, None, scores)) == ["2 sections teach: one"]
    for module in (lever_weights, lever_axes):
        assert list(module.measure(lever_spots.SLIDE, 0, None, scores)) == ["half of an embryo: one"]
