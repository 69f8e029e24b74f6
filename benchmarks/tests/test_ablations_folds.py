from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
from scipy.spatial import procrustes

import ipar
import lever_shares
import levers
import tasks
from ipar.model import Sharpening


def numbered(n=200):
    """Cells whose only gene, and whose place, are their number."""
    cells = ad.AnnData(np.arange(n, dtype=np.float32)[:, None], obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]))
    return tasks.Slides(cells[:0].copy(), cells, np.c_[np.arange(n), np.zeros(n)])


def test_halves_share_no_cell_and_keep_their_places():
    one = lever_shares.dealt_in_halves(numbered(), 3)
    taught, asked = one.train.X[:, 0], one.query.X[:, 0]
    assert sorted([*taught, *asked]) == list(range(200))
    assert np.array_equal(one.train.obsm["spatial"][:, 0], taught)
    assert np.array_equal(one.truth[:, 0], asked)
    assert "spatial" not in one.query.obsm
    counts = one.train.obs["slide"].value_counts()
    assert counts.index.sort_values().tolist() == ["a", "b"]
    assert counts.min() > 25
    again, other = (lever_shares.dealt_in_halves(numbered(), seed) for seed in (3, 4))
    assert np.array_equal(again.query.X, one.query.X)
    assert not np.array_equal(other.query.obs_names, one.query.obs_names)


def test_no_fold_has_a_scored_slide():
    assert set(lever_shares.FOLDS) <= set(levers.FOLDS)


def test_the_default_row_is_what_a_default_fit_predicts(query, train, model, generated, monkeypatch):
    model = replace(model, flow=replace(generated.model, encoder=model.encoder), global_weight=0.5)
    monkeypatch.setattr(ipar.tl, "fit_ipalite", lambda *_, **__: model)
    usual = (model.sharpening or Sharpening()).taught
    monkeypatch.setattr(lever_shares, "TAUGHT", (usual, usual / 2))
    found = dict(lever_shares.layouts(tasks.Slides(train, query, query.obsm["spatial"]), 0))
    shares = len(lever_shares.SHARES)
    assert list(found)[1 : 1 + shares] == list(lever_shares.SHARES)
    held = list(found.values())[1 + shares :]
    options = {"random_state": 0, "progress": False}
    ipar.tl.predict_coords(query, model, **options)
    default = next(layout for name, layout in found.items() if name.endswith("(the default)"))
    # nothing but what is held differs in the last rows
    assert np.array_equal(held[0], default)
    assert not np.allclose(held[1], default)
    # only which pairs are drawn differs
    assert procrustes(query.obsm["X_ipar"], default)[2] < 0.02
    alone, without = (found[name] for name in ("the layout that the flow expects", next(iter(lever_shares.SHARES))))
    assert procrustes(query.obsm["X_ipar"], alone)[2] > procrustes(query.obsm["X_ipar"], default)[2]
    assert procrustes(without, default)[2] > 1e-4
