from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

N, R, H, K = 120, 3, 2, 30


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_predicted():
    rng = np.random.default_rng(0)
    truth = rng.uniform([0, 0], [300, 200], size=(N, 2))
    adata = ad.AnnData(np.ones((N, 3), dtype=np.float32))
    adata.obs_names = [f"c{i}" for i in range(N)]
    adata.obs["slide"] = pd.Categorical(["one"] * N)
    adata.obs["ipar_uncertainty"] = np.random.default_rng(5).gamma(2.0, size=N)
    adata.obsm["spatial"] = truth
    unit = (truth - truth.mean(0)) / np.sqrt(((truth - truth.mean(0)) ** 2).sum(1).mean())
    layouts = [unit + rng.normal(scale=0.6 - 0.15 * r, size=(N, 2)) for r in range(R + 1)]
    adata.obsm["X_ipar_recycles"] = np.concatenate(layouts, axis=1).astype(np.float32)
    adata.obsm["X_ipar"] = layouts[-1].astype(np.float32)
    drawn = unit[:, None] + rng.normal(scale=rng.uniform(0.05, 0.4, size=(N, 1, 1)), size=(N, 5, 2))
    adata.obsm["X_ipar_samples"] = drawn.reshape(N, -1).astype(np.float32)
    adata.obs["ipar_uncertainty"] = np.sqrt(drawn.var(axis=1).sum(axis=-1))
    minor = rng.uniform(2, 5, N)
    adata.obsm["ellipse"] = np.column_stack([rng.normal(size=(N, 2)), 2 * minor, minor, rng.uniform(-1.5, 1.5, N)])
    query = np.array([5, 40, 77, 110])
    # the pass of a query holds a random part of the cells, in random order
    cells = np.stack([rng.permutation(np.append(rng.choice(np.delete(np.arange(N), q), 79, False), q)) for q in query])
    candidates = np.zeros(cells.shape, dtype=bool)
    weights = np.zeros((4, R, H, 80), dtype=np.float32)
    for i, q in enumerate(query):
        places = rng.choice(np.flatnonzero(cells[i] != q), K, replace=False)
        candidates[i, places] = True
        weights[i][..., places] = rng.dirichlet(np.full(K, 0.5), size=(R, H))
    names = adata.obs_names.to_numpy(dtype=object)
    attention = {"query": names[query], "cells": names[cells], "weights": weights, "candidates": candidates}
    places = layouts[-1][:, None] + rng.normal(scale=0.2, size=(N, 6, 2))
    adata.obsm["X_ipar_regions"] = places.reshape(N, -1).astype(np.float32)
    adata.obsm["X_ipar_regions_radii"] = (rng.uniform(0.2, 0.4, size=(N, 1)) * [1.0, 2.0]).astype(np.float32)
    regions = {"levels": np.array([0.5, 0.8]), "units": np.array(["a", "b"]), "key_added": "X_ipar"}
    adata.uns["ipar"] = {"attention": attention, "regions": regions}
    return adata


@pytest.fixture(scope="session")
def untouched():
    """One slide as prediction leaves it: a known layout, noisy predictions, the attention of four queries."""
    return make_predicted()


@pytest.fixture
def predicted():
    """The same slide, to be changed at will."""
    return make_predicted()


def made_diagnostics():
    """Diagnostics of two slides, five recycles and four heads, as `attention_diagnostics` leaves them."""
    rng = np.random.default_rng(7)
    measures = ["attention_recall", "attention_entropy", "head_diversity", "rho_qk", "rho_gate", "logit_std"]
    keys = [(name, recycle, head) for name in measures for recycle in range(1, 6) for head in range(1, 5)]
    keys += [("displacement", recycle, 0) for recycle in range(1, 6)]
    keys += [(name, 0, 0) for name in ("attention_recall_chance", "gate_precision", "gate_recall")]
    rows = [(slide, *key, rng.random(), 0.1, 12) for slide in ("one", "two") for key in keys]
    return pd.DataFrame(rows, columns=["slide", "measure", "recycle", "head", "value", "sd", "n_sets"])


def made_gap():
    """Energies of two slides with three minisets each, as `decompose_gap` leaves them."""
    rng = np.random.default_rng(8)
    conditions = [
        "first guess",
        "target edges",
        "true candidates",
        "wrong candidates",
        "all candidates",
        "gated candidates",
    ]
    rows = [(slide, name, i, rng.random()) for slide in ("one", "two") for i in range(3) for name in conditions]
    return pd.DataFrame(rows, columns=["slide", "condition", "miniset", "e_geo"])


@pytest.fixture
def trained():
    """A training AnnData with the record of six epochs and of three left-out slides."""
    rng = np.random.default_rng(1)
    columns = ["total", "walk", "stress", "repulsion", "entropy", "gate", "val_target", "val_gated"]
    table = pd.DataFrame({"epoch": np.arange(6), "lr": 5e-4, "w_rw": [0.0, 0.1, 0.2, 0.3, 0.3, 0.3]})
    table[columns] = rng.uniform(0.5, 2.0, size=(6, len(columns)))
    table.loc[[0, 2], ["val_target", "val_gated"]] = np.nan
    folds = pd.DataFrame(
        {
            "slide": ["a", "b", "c"],
            "recall": [0.5, 0.4, 0.3],
            "recall_chance": [0.1, 0.1, 0.12],
            "recall_ratio": [5.0, 4.0, 2.5],
            "distance_spearman": [0.6, 0.55, 0.5],
            "permutation_spearman": [0.01, -0.02, 0.0],
        }
    )
    adata = ad.AnnData(np.ones((4, 2), dtype=np.float32))
    adata.uns["ipar"] = {
        "history": table,
        "history_best": 4,
        "diagnostics": made_diagnostics(),
        "gap": made_gap(),
        "localisability": {
            "localisable": True,
            "recall_ratio": 3.8,
            "recall": 0.4,
            "recall_chance": 0.107,
            "distance_spearman": 0.55,
            "permutation_spearman": 0.0,
            "folds": folds,
        },
    }
    return adata


@pytest.fixture(scope="session")
def artist():
    """Find the one artist of an axes that carries a label."""

    def find(ax, label):
        found = [one for one in ax.get_children() if one.get_label() == label]
        assert len(found) == 1, f"{len(found)} artists called {label!r}"
        return found[0]

    return find


@pytest.fixture
def both(predicted, trained):
    """The same slide with all that training leaves too."""
    attention = {key: value[:1] for key, value in predicted.uns["ipar"]["attention"].items()}
    regions = {"regions": predicted.uns["ipar"]["regions"]}
    predicted.uns["ipar"] = trained.uns["ipar"] | {"attention": attention} | regions
    return predicted


def rendered(figure, ax, xy):
    """Colours (n, 3) that a figure shows at places (n, 2) of an axes."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3] / 255
    columns, rows = ax.transData.transform(xy).astype(int).T
    return pixels[rows, columns]


@pytest.fixture(scope="session")
def shown_at():
    """See :func:`rendered`."""
    return rendered
