"""A tiny tissue, a model fitted on it, and what tests of every entry point share."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import ipar
from ipar.model import IGA, IPALite, Sharpening
from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training import (
    EncoderRecipe,
    EncoderTraining,
    FinishRecipe,
    FlowRecipe,
    FlowTraining,
    IPALiteTraining,
    MinisetPlan,
    NetworkRecipe,
    Recipe,
    RegionRecipe,
    SetEncoderTraining,
    UncertaintyRecipe,
)

N_CELLS, N_GENES = 120, 60

RECIPE = EncoderRecipe(
    n_pcs=10,
    n_output=16,
    pca_hidden=(32,),
    genes_hidden=(32,),
    pca_training=EncoderTraining(n_steps=70, batch_size=96),
    genes_training=EncoderTraining(n_steps=60, batch_size=96),
    set_encoder_training=SetEncoderTraining(n_steps=20, batch_size=2, size=(32, 64)),
    n_minisets=2,
)
# for tests of what is written rather than of how good it is
HASTY = EncoderRecipe(
    n_pcs=10,
    n_output=16,
    pca_hidden=(16,),
    genes_hidden=(16,),
    pca_training=EncoderTraining(n_steps=3, batch_size=96),
    genes_training=EncoderTraining(n_steps=3, batch_size=96),
    set_encoder_training=SetEncoderTraining(n_steps=2, batch_size=2, size=(32, 64)),
    n_minisets=2,
    inputs="pca",
)
FINISH = FinishRecipe(sharpening=Sharpening(n_steps=40), holds=(0.3, 1.0), slide_pc_shares=(0.2,), n_minisets=2)
SMALL_FLOW = FlowRecipe(
    config=IGAConfig(d_state=16, n_heads=2, d_head=8, n_blocks=2),
    training=FlowTraining(gate_steps=10, lr=5e-3),
    plan=MinisetPlan(n_minisets=8, size=(48, 80), n_neighbors=20),
    refit=False,
    n_tried=3,
    n_steps_tried=4,
)
SMALL_RECIPE = Recipe(
    embed=HASTY,
    network=NetworkRecipe(
        config=IPALiteConfig(d_state=16, n_heads=2, d_head=8, n_recycles=2),
        training=IPALiteTraining(gate_steps=20, lr=2e-3),
        plan=MinisetPlan(n_minisets=8, size=(48, 80), n_neighbors=40),
        n_validation=4,
        refit_epochs=1,
    ),
    flow=SMALL_FLOW,
    finish=FINISH,
    uncertainty=UncertaintyRecipe(n_samples=4),
    regions=RegionRecipe(n_steps=4),
)
# without a flow, a second training, which tests of its own have
SMALL = {"recipe": SMALL_RECIPE, "max_epochs": 2, "flow": False, "progress": False}
SMALL_IGA = {"recipe": SMALL_RECIPE, "max_epochs": 4, "progress": False}


def tuned(recipe, *, inputs=None, **network):
    """A recipe with other inputs of the encoder, or fields of the layout network or its minisets."""
    if inputs is not None:
        recipe = replace(recipe, embed=replace(recipe.embed, inputs=inputs))
    drawn = {name: network.pop(name) for name in ("n_minisets", "size", "n_neighbors") if name in network}
    plan = replace(recipe.network.plan, **drawn)
    return replace(recipe, network=replace(recipe.network, plan=plan, **network))


def simulate(names=("a", "b", "c"), *, n_cells=N_CELLS, localisable=True, mirrored=False, turned=True, seed=0):
    """Slides of one tissue, each turned, unless told otherwise, and shifted; log rates are plane waves of the position.

    Where it is not localisable, expression has the same structure but tells nothing of the position. Where it is
    mirrored, expression does not tell left from right.
    """
    tissue = np.random.default_rng(123)  # the same for every call: what is learnt on one slide holds on the next
    waves, phases = tissue.normal(scale=1.2, size=(2, N_GENES)), tissue.uniform(0, 2 * np.pi, N_GENES)
    level = tissue.normal(size=N_GENES)
    rng = np.random.default_rng(seed)
    coords, counts = [], []
    for i in range(len(names)):
        place = rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(n_cells, 2))
        source = place if localisable else rng.permutation(place)
        if mirrored:
            source = np.c_[np.abs(source[:, 0]), source[:, 1]]
        rates = np.exp(level + np.sin(source @ waves + phases))
        rates *= rng.lognormal(np.log(3000), 0.2, size=(n_cells, 1)) / rates.sum(1, keepdims=True)
        counts.append(rng.poisson(rates))
        angle = 2 * np.pi * rng.random() * turned
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        coords.append(place @ turn * 400 + 1000.0 * i)
    counts = sparse.csr_matrix(np.concatenate(counts).astype(np.float32))
    adata = ad.AnnData(log_normalised(counts))
    adata.layers["counts"] = counts
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.var_names = [f"gene{i}" for i in range(N_GENES)]
    adata.obs["slide"] = pd.Categorical(np.repeat(list(names), n_cells))
    adata.obsm["spatial"] = np.concatenate(coords)
    adata.obsm["X_other"] = rng.normal(size=(adata.n_obs, 3))
    return adata


def log_normalised(counts):
    totals = np.maximum(np.asarray(counts.sum(1)), 1)
    return sparse.csr_matrix(counts.multiply(1e4 / totals).log1p(), dtype=np.float32)


@dataclass(frozen=True)
class Fitted:
    """Never change these: tests take copies."""

    train: ad.AnnData
    query: ad.AnnData
    model: IPALite | IGA


@dataclass(frozen=True)
class Bad:
    """How to spoil an AnnData, and what must be said about it: the error and, as a pattern, the remedy."""

    spoil: Callable[[ad.AnnData], ad.AnnData]
    error: type[Exception]
    remedy: str


def pytest_collection_modifyitems(items):
    """Notebooks first: they are the longest, and at the end a worker would wait for the other."""
    items.sort(key=lambda item: "test_tutorials" not in item.nodeid)


def pytest_configure(config):
    """A worker a core: threads of its own, or of the processes it starts, would only get into another one's way.

    Workers inherit the environment. Once they run it is too late: numba, where it starts its threads, gives torch as many.
    """
    if config.getoption("numprocesses", default=None):
        for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # more threads, where a test asks for them, wait asleep


@pytest.fixture(scope="session")
def fitted():
    """Three slides with all that a fit leaves on them, the model, and a fourth slide that it never saw."""
    train, query = simulate(), simulate(("d",), seed=1)
    ipar.pp.embed(train, "slide", recipe=RECIPE, inputs="pca", progress=False)
    ipar.pp.candidates(train, 40)
    model = ipar.tl.fit_ipalite(train, "slide", **SMALL)
    return Fitted(train, query, model)


@pytest.fixture(scope="session")
def generated(fitted):
    """The same with a generative model."""
    train = fitted.train.copy()
    del train.uns["ipar"]
    train.uns["ipar"] = {"localisability": dict(fitted.train.uns["ipar"]["localisability"])}
    return Fitted(train, fitted.query, ipar.tl.fit_iga(train, "slide", **SMALL_IGA))


@pytest.fixture(scope="session")
def alone():
    """A section that teaches alone with all that a fit leaves on it, the model, and cells of its tissue in its frame."""
    train, query = simulate(("s",), n_cells=500, turned=False), simulate(("q",), n_cells=150, turned=False, seed=1)
    ipar.pp.embed(train, recipe=RECIPE, inputs="pca", progress=False)
    return Fitted(train, query, ipar.tl.fit_ipalite(train, **SMALL))


@pytest.fixture
def slides():
    """Three training slides as a user brings them."""
    return simulate()


@pytest.fixture
def train(fitted):
    """The fitted training slides, to be changed at will."""
    return fitted.train.copy()


@pytest.fixture
def query(fitted):
    """The unseen slide, to be changed at will."""
    return fitted.query.copy()


@pytest.fixture
def model(fitted):
    """The fitted model; nothing may change it."""
    return fitted.model


@pytest.fixture(scope="session")
def make_slides():
    """The simulation."""
    return simulate


@dataclass(frozen=True)
class Settings:
    """Keyword arguments that make training quick: embeddings that are good, embeddings that just are, and fits."""

    embed: dict
    hasty: dict
    fit: dict
    iga: dict


@pytest.fixture(scope="session")
def settings():
    """Keyword arguments that make training quick."""
    common = {"inputs": "pca", "progress": False}
    return Settings({"recipe": RECIPE, **common}, {"recipe": HASTY, **common}, SMALL, SMALL_IGA)


@pytest.fixture(scope="session")
def tune():
    """Another recipe of a quick fit, see :func:`tuned`."""
    return lambda **changes: {"recipe": tuned(SMALL_RECIPE, **changes)}


def plain(value):
    return value.toarray() if sparse.issparse(value) else copy.deepcopy(value)


def contents(adata):
    """All of an AnnData by value, one entry for everything that could be changed."""
    found = {("X",): plain(adata.X), ("obs",): adata.obs.copy(), ("var",): adata.var.copy()}
    for name in ("layers", "obsm", "obsp", "varm", "uns"):
        found |= {(name, key): plain(value) for key, value in getattr(adata, name).items()}
    return found


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, pd.DataFrame | pd.Series):
        return a.equals(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b)


@pytest.fixture
def unchanged():
    """Remember an AnnData; gives a function that tells which entries are new or changed since."""

    def remember(adata):
        before = contents(adata)

        def changes():
            after = contents(adata)
            gone = [("gone", *key) for key in before.keys() - after.keys()]
            return {*gone, *(key for key in after if key not in before or not same(before[key], after[key]))}

        return changes

    return remember


@pytest.fixture
def global_random_state():
    """The test must leave numpy's and torch's global random states as they were."""
    before, torch_before = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    after = np.random.get_state()  # noqa: NPY002
    assert (before[1] == after[1]).all()
    assert before[2:] == after[2:]
    assert torch.equal(torch_before, torch.get_rng_state())


def _with_x(value):
    def spoil(adata):
        dense = adata.X.toarray()
        dense[7, 3] = value
        adata.X = sparse.csr_matrix(dense)
        return adata

    return spoil


def _with_coords(value, cells=5):
    def spoil(adata):
        adata.obsm["spatial"][cells] = value
        return adata

    return spoil


def _with(**attributes):
    def spoil(adata):
        for name, change in attributes.items():
            setattr(adata, name, change(getattr(adata, name)))
        return adata

    return spoil


def _without_coords(adata):
    del adata.obsm["spatial"]
    return adata


def _flat_coords(adata):
    adata.obsm["spatial"] = np.zeros((adata.n_obs, 3))
    return adata


BAD_EXPRESSION = {
    "nan": Bad(_with_x(np.nan), ValueError, "NaN or infinite.*cell 7, gene 3: remove these cells, or set"),
    "infinite": Bad(_with_x(np.inf), ValueError, "NaN or infinite.*cell 7, gene 3: remove these cells, or set"),
    "negative": Bad(_with_x(-2.0), ValueError, "not scaled.*minimum of -2: use the matrix from before sc.pp.scale"),
    "no logarithms": Bad(
        _with_x(4000.5),
        ValueError,
        r"found a maximum of 4000\.5: from counts, call sc.pp.normalize_total\(adata\), then sc.pp.log1p",
    ),
    "genes repeat": Bad(
        _with(var_names=lambda names: ["gene1", *names[1:]]), ValueError, "gene1.*more than once.*var_names_make_unique"
    ),
    "cells repeat": Bad(
        _with(obs_names=lambda names: ["cell1", *names[1:]]), ValueError, "cell1.*more than once.*obs_names_make_unique"
    ),
    "no expression": Bad(_with(X=lambda _: None), ValueError, "X is empty.*or name a layer"),
}
BAD_SLIDES = {
    "no column": Bad(_with(obs=lambda obs: obs.drop(columns="slide")), KeyError, "no column 'slide'.*library_key"),
    "numbers": Bad(
        _with(obs=lambda obs: obs.assign(slide=obs["slide"].cat.codes)),
        TypeError,
        r"must be categorical or of strings, found dtype int.*astype\('category'\)",
    ),
    "cells without a slide": Bad(
        _with(obs=lambda obs: obs.assign(slide=obs["slide"].cat.set_categories(["a", "b"]))),
        ValueError,
        "found 120 missing values: fill them, or remove these cells",
    ),
    "two slides of one name": Bad(
        _with(obs=lambda obs: obs.assign(slide=obs["slide"].cat.rename_categories({"a": 1, "b": "1"}))),
        ValueError,
        r"two slides of one name, '1', once as text and once as a number: .*astype\(str\)",
    ),
}
BAD_GEOMETRY = {
    "a small section alone": Bad(
        lambda adata: adata[:120].copy(), ValueError, "alone needs at least 200 cells.*found 120: add cells, or another"
    ),
    "small slide": Bad(
        lambda adata: adata[:289].copy(), ValueError, r"at least 50 cells, found c \(49\): remove these slides"
    ),
    "no coordinates": Bad(_without_coords, KeyError, "no 'spatial'.*spatial_key"),
    "three columns": Bad(_flat_coords, ValueError, r"\(n_cells, 2\), found \(360, 3\): keep the columns"),
    "nan coordinate": Bad(_with_coords(np.nan), ValueError, "NaN or infinite values in 1 cells: remove these"),
    "infinite coordinate": Bad(
        _with_coords([0, -np.inf]), ValueError, "NaN or infinite values in 1 cells: remove these"
    ),
    "coincident": Bad(
        _with_coords(7.0, slice(0, 120)),
        ValueError,
        "Slide 'a' has only 1 distinct positions for 120 cells: check the coordinates, or remove the slide",
    ),
}
BAD_TRAINING = BAD_EXPRESSION | BAD_SLIDES | BAD_GEOMETRY


@dataclass(frozen=True)
class Broken:
    """A spoilt AnnData, and what must be said about it."""

    adata: ad.AnnData
    error: type[Exception]
    remedy: str


def _broken(bad, adata):
    return Broken(bad.spoil(adata), bad.error, bad.remedy)


@pytest.fixture(params=list(BAD_TRAINING))
def bad_training(request, slides):
    """Training slides that are not usable, one kind a test."""
    return _broken(BAD_TRAINING[request.param], slides)


@pytest.fixture
def bad_training_in_space(bad_training):
    """The same where three columns are welcome, zeros in all of them not."""
    if "keep the columns" in bad_training.remedy:
        return replace(bad_training, remedy="only 1 distinct positions")
    return bad_training


@pytest.fixture(params=list(BAD_EXPRESSION | BAD_SLIDES))
def bad_query(request, slides):
    """Cells that cannot be placed slide by slide, one kind a test."""
    return _broken((BAD_EXPRESSION | BAD_SLIDES)[request.param], slides)
