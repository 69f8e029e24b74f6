from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import lever_panels
import lever_spots
import tasks
from ipar._expression import Expression
from ipar.training.encoder import Slide, fit_encoder
from lever_layouts import overview_of

GENES = pd.Index([f"g{i}" for i in range(30)])


def slide(name, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((80, 2)).astype(np.float32)
    values = np.maximum(np.cos(x @ rng.normal(size=(2, 30)) * 4) + rng.normal(size=(80, 30)) / 4, 0)
    return Slide(sparse.csr_matrix(values.astype(np.float32)), x, name)


@pytest.mark.parametrize("n_slides", [1, 2])
def test_a_share_is_trained_as_if_it_were_alone(monkeypatch, hasty_recipe, n_slides):
    known, query = [slide(f"s{i}", i) for i in range(n_slides)], Expression(slide("q", 9).expression, GENES)
    monkeypatch.setattr(lever_panels, "EncoderRecipe", lambda: hasty_recipe)
    found = dict(lever_panels.layouts(known, query, 0))
    assert list(found) == [
        "a half dropped",
        "a half dropped, sharpened",
        "a fifth dropped",
        "a fifth dropped, sharpened",
    ]
    one = pd.Categorical(np.zeros(80, dtype=np.int8))
    for name, share in (("a half", 0.5), ("a fifth", 0.2)):
        recipe = replace(hasty_recipe, n_pcs=30, genes_input_dropout=share)
        alone = fit_encoder(known, GENES, ["both"], recipe, overview=True, sketch=n_slides > 1)["both"]
        across = alone.views(query.matrix, GENES, one).across
        np.testing.assert_allclose(found[f"{name} dropped"], overview_of(across), atol=1e-4)
    assert not np.allclose(found["a half dropped"], found["a fifth dropped"], atol=1e-3)


def test_the_panel_holds_the_genes_that_vary_most_within_slides(monkeypatch):
    monkeypatch.setattr(lever_panels, "N_GENES", 4)
    rng = np.random.default_rng(0)
    x = rng.random((2, 50, 9))
    x[:, :, [1, 3, 4, 8]] *= 5
    x[1, :, 0] += 30  # varies between slides only
    slides = [Slide(sparse.csr_matrix(one.astype(np.float32)), np.zeros((50, 2), np.float32), "") for one in x]
    assert lever_panels.variable_genes(slides).tolist() == [1, 3, 4, 8]


def test_no_cell_of_the_slide_both_teaches_and_is_placed(monkeypatch):
    rng = np.random.default_rng(1)
    cells, truth = slide("q", 5).expression, rng.random((80, 2))
    given = {}

    def layouts(known, query, seed):
        given.update(known=known, query=query)
        yield "only", truth[lever_spots.halves(80, seed)[1]]

    query = tasks.ad.AnnData(cells, obs=pd.DataFrame(index=[str(i) for i in range(80)]), var=pd.DataFrame(index=GENES))
    monkeypatch.setattr(lever_panels.tasks, "load", lambda fold, data: tasks.Slides(query[:0], query, truth))
    monkeypatch.setattr(lever_panels, "layouts", layouts)
    found = lever_panels.measure(lever_spots.SLIDE, 3, None, ("luna_spearman", "e_geo"))
    assert found["half of an embryo: only"]["luna_spearman"] == pytest.approx(1)
    rows = np.concatenate([given["known"][0].expression.toarray(), given["query"].matrix.toarray()])
    assert len(np.unique(rows, axis=0)) == 80
