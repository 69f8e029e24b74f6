"""Real slides on the scales of the benchmarks: nothing is said of them, and every other scale is recognised."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar._chunks import as_rows
from ipar._scaling import Target
from ipar._scaling import on_one_scale as rows_on_one_scale
from ipar.model.scale import ExpressionScale
from ipar.model.values import Form, Recognition

pytestmark = pytest.mark.real

SLIDES = {
    "mouse_brain_st": True,
    "mouse_ob_st": True,
    "mouse_liver_st": True,
    "mouse_embryo_seqfish": False,  # log-normalised by its authors
}
DISSOCIATED = {
    "mouse_mop_merfish_spots": "mouse_mop_sc20k",
    "mouse_v1_starmap_1k": "mouse_cortex_zeisel550_sc",
}
COUNTS = [name for name, counts in SLIDES.items() if counts] + [*DISSOCIATED, *DISSOCIATED.values()]


def on_one_scale(matrix, *args, **options):
    return rows_on_one_scale(as_rows(matrix), *args, **options).whole()


def csr(x):
    return sparse.csr_matrix(x, dtype=np.float32)


def log_normalised(counts, total=1e4):
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return csr((sparse.diags_array(total / totals) @ counts).log1p())


def varying(matrix, n_genes):
    """The genes that vary most, as they are often chosen before a fit."""
    square = np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel()
    variance = square - np.asarray(matrix.mean(axis=0)).ravel() ** 2
    return np.sort(np.argsort(-variance)[:n_genes])


@pytest.fixture(scope="module")
def read(real_data):
    def run(name):
        adata = ad.read_h5ad(real_data(f"{name}.h5ad"))
        adata.X = csr(adata.X)
        return adata

    return run


def silent(train, train_slides, query, query_slides, genes):
    """The query is on the scale of the training slides, and these agree; neither is touched."""
    names = pd.Index(genes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert on_one_scale(train, train_slides, None, raw=False) is train
        parts = [train[np.flatnonzero(train_slides == name)] for name in train_slides.categories]
        target = Target.of_model(ExpressionScale.of(parts), names, names)
        assert on_one_scale(query, query_slides, target, raw=False) is query


@pytest.mark.parametrize("n_genes", [None, 300, 50])
@pytest.mark.parametrize("name", list(SLIDES))
def test_no_alarm_on_slides(read, name, n_genes):
    adata = read(name)
    x = log_normalised(adata.X) if SLIDES[name] else adata.X
    chosen = np.arange(x.shape[1]) if n_genes is None else varying(x, n_genes)
    x, slides = x[:, chosen], adata.obs["slide"].astype(str).to_numpy()
    left = slides == sorted(set(slides))[-1]
    train = pd.Categorical(slides[~left])
    # quadrants of the section, each by itself: parts of a tissue differ in composition
    place = adata.obsm["spatial"][left]
    part = pd.Categorical([f"{a}{b}" for a, b in place > np.median(place, axis=0)])
    silent(x[~left], train, x[left], part, adata.var_names[chosen])
    if "cell_type" in adata.obs:
        types = pd.Categorical(adata.obs["cell_type"].astype(str)[left])
        silent(x[~left], train, x[left], types, adata.var_names[chosen])


@pytest.mark.parametrize("n_genes", [None, 100])
@pytest.mark.parametrize("name", list(DISSOCIATED))
def test_no_alarm_on_dissociated_cells_whatever_their_type(read, name, n_genes):
    section, cells = read(name), read(DISSOCIATED[name])
    shared = section.var_names.intersection(cells.var_names)
    section, cells = section[:, shared], cells[:, shared]
    total = float(np.median(np.asarray(section.X.sum(axis=1))))
    x, query = log_normalised(section.X, total), log_normalised(cells.X, total)
    chosen = np.arange(len(shared)) if n_genes is None else varying(x, n_genes)
    for labels in (np.full(cells.n_obs, "all"), cells.obs["cell_type"].astype(str)):
        one = pd.Categorical(np.full(section.n_obs, "section"))
        silent(x[:, chosen], one, query[:, chosen], pd.Categorical(labels), shared[chosen])


@pytest.mark.parametrize("n_genes", [None, 300])
@pytest.mark.parametrize("name", COUNTS)
def test_every_scale_is_recognised(read, name, n_genes):
    counts = read(name).X
    logs = log_normalised(counts)
    chosen = np.arange(logs.shape[1]) if n_genes is None else varying(logs, n_genes)
    recognition = Recognition()

    def form(matrix):
        return recognition.of(csr(matrix[recognition.sample(np.arange(matrix.shape[0]))][:, chosen])).form

    assert form(counts) == Form("counts")
    assert form(counts > 0) == Form("binary")
    assert form(logs.expm1()) == Form("normalised")
    assert form(logs.expm1() / 1e4) == Form("normalised")
    assert form(logs.log1p()) == Form("logged twice")
    for base in (np.e, 2.0, 10.0):
        assert form(logs / np.log(base)) == Form("logarithms", base)


def test_the_embryo_is_to_base_2(read):
    """Its authors took logarithms to base 2 by cells' size factors."""
    assert Recognition().of(read("mouse_embryo_seqfish").X[:300]).form == Form("logarithms", 2.0)
    assert Recognition().of(read("mouse_embryo_e1z2_cells20").X[:300]).form == Form("logarithms", 2.0)
