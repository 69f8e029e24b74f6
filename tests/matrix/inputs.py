"""Inputs of the matrix: a valid AnnData, spoilt or unusual in one way each, by name."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

Mutation = Callable[[ad.AnnData], ad.AnnData]
INPUTS: dict[str, Mutation] = {"as it is": lambda a: a}


def named(name: str) -> Callable[[Mutation], Mutation]:
    """Add an input."""

    def add(change: Mutation) -> Mutation:
        assert name not in INPUTS
        INPUTS[name] = change
        return change

    return add


def with_x(convert: Callable[[sparse.csr_matrix], object]) -> Mutation:
    """Another X, made of that in CSR form."""

    def change(a: ad.AnnData) -> ad.AnnData:
        a.X = convert(a.X)
        return a

    return change


def with_value(value: float) -> Mutation:
    """One value of X is another."""

    def change(a: ad.AnnData) -> ad.AnnData:
        dense = a.X.toarray()
        dense[7, 3] = value
        a.X = sparse.csr_matrix(dense)
        return a

    return change


def with_coords(convert: Callable[[np.ndarray], object], key: str = "spatial") -> Mutation:
    """Other coordinates, made of those that are there."""

    def change(a: ad.AnnData) -> ad.AnnData:
        a.obsm[key] = convert(np.array(a.obsm[key]))
        return a

    return change


def with_slides(convert: Callable[[pd.Series], object]) -> Mutation:
    """Another column of slides."""

    def change(a: ad.AnnData) -> ad.AnnData:
        a.obs["slide"] = convert(a.obs["slide"])
        return a

    return change


def spoilt(values: np.ndarray, value: float) -> np.ndarray:
    """The same with one other value."""
    values[5, 0] = value
    return values


INPUTS |= {
    # how the same values lie in memory
    "dense X": with_x(lambda x: x.toarray()),
    "Fortran X": with_x(lambda x: np.asfortranarray(x.toarray())),
    "CSC X": with_x(lambda x: x.tocsc()),
    "CSR array X": with_x(sparse.csr_array),
    "float64 X": with_x(lambda x: x.astype(np.float64)),
    "float16 X": with_x(lambda x: x.toarray().astype(np.float16)),
    "unsorted indices": with_x(
        lambda x: x[:, np.random.default_rng(0).permutation(x.shape[1])][
            :, np.argsort(np.random.default_rng(0).permutation(x.shape[1]))
        ]
    ),
    # values that are no expression
    "NaN in X": with_value(np.nan),
    "inf in X": with_value(np.inf),
    "-inf in X": with_value(-np.inf),
    "negative X": with_value(-2.0),
    "huge X": with_value(4000.5),
    "complex X": with_x(lambda x: x.toarray().astype(np.complex64)),
    "masked X": with_x(lambda x: np.ma.masked_array(x.toarray(), mask=x.toarray() > 2)),
    "stored zeros in X": with_x(
        lambda x: sparse.csr_matrix(x) + 0 * sparse.csr_matrix(np.eye(*x.shape), dtype=x.dtype)
    ),
    "one profile": with_x(lambda x: sparse.csr_matrix(np.repeat(x[:1].toarray(), x.shape[0], axis=0))),
    "two profiles": with_x(lambda x: sparse.csr_matrix(x[np.arange(x.shape[0]) % 2])),
    "X of words": with_x(lambda x: x.toarray().astype(str)),
    "X of objects": with_x(lambda x: x.toarray().astype(object)),
    "binary X": with_x(lambda x: (x > 0).astype(np.float32)),
    "empty X": with_x(lambda x: sparse.csr_matrix(x.shape, dtype=np.float32)),
    "no X": with_x(lambda x: None),
    # cells and genes
    "no cells": lambda a: a[:0].copy(),
    "one cell": lambda a: a[:1].copy(),
    "three cells": lambda a: a[:3].copy(),
    "four cells": lambda a: a[:4].copy(),
    "five cells": lambda a: a[:5].copy(),
    "one gene": lambda a: a[:, :1].copy(),
    "no genes": lambda a: a[:, :0].copy(),
    "half of the genes": lambda a: a[:, :30].copy(),
    "a tenth of the genes": lambda a: a[:, :6].copy(),
    "genes in another order": lambda a: a[:, ::-1].copy(),
    "a view": lambda a: a[:],
    "a view of some cells": lambda a: a[::2],
    # coordinates
    "NaN coordinate": with_coords(lambda x: spoilt(x, np.nan)),
    "inf coordinate": with_coords(lambda x: spoilt(x, np.inf)),
    "coordinates of words": with_coords(lambda x: x.astype(str)),
    "coordinates of objects": with_coords(lambda x: x.astype(object)),
    "sparse coordinates": with_coords(sparse.csr_matrix),
    "complex coordinates": with_coords(lambda x: x.astype(complex)),
    "three columns": with_coords(lambda x: np.c_[x, x[:, 0]]),
    "one column": with_coords(lambda x: x[:, :1]),
    "coincident cells": with_coords(np.zeros_like),
    "float32 coordinates": with_coords(lambda x: x.astype(np.float32)),
    "integer coordinates": with_coords(lambda x: x.astype(np.int64)),
    # slides
    "slides of numbers": with_slides(lambda s: s.cat.codes.astype(int)),
    "slides of fractions": with_slides(lambda s: s.cat.codes / 2),
    "slides of booleans": with_slides(lambda s: (s == "a").astype(bool)),
    "slides missing": with_slides(lambda s: s.cat.set_categories(["z"])),
    "two slides": with_slides(lambda s: pd.Categorical(np.where(np.arange(len(s)) < len(s) // 2, "d", "e"))),
    "slides of strings": with_slides(lambda s: s.astype(str).astype(object)),
    "slides of pandas strings": with_slides(lambda s: s.astype("string")),
    "slides of unused categories": with_slides(lambda s: s.cat.add_categories(["unused"])),
    "two slides of one name": with_slides(lambda s: pd.Categorical([1, "1"] * (len(s) // 2), categories=[1, "1"])),
}


@named("explicit zeros")
def _(a: ad.AnnData) -> ad.AnnData:
    dense = a.X.toarray()
    rows, columns = np.indices(dense.shape).reshape(2, -1)
    a.X = sparse.csr_matrix((dense.ravel(), (rows, columns)), shape=dense.shape)
    return a


@named("an empty cell")
def _(a: ad.AnnData) -> ad.AnnData:
    dense = a.X.toarray()
    dense[3] = 0
    a.X = sparse.csr_matrix(dense)
    return a


@named("genes repeat")
def _(a: ad.AnnData) -> ad.AnnData:
    a.var_names = ["gene1", *a.var_names[1:]]
    return a


@named("cells repeat")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obs_names = [a.obs_names[1], *a.obs_names[1:]]
    return a


@named("other genes")
def _(a: ad.AnnData) -> ad.AnnData:
    a.var_names = [f"other{i}" for i in range(a.n_vars)]
    return a


@named("scaled X")
def _(a: ad.AnnData) -> ad.AnnData:
    dense = a.X.toarray()
    a.X = (dense - dense.mean(0)) / (dense.std(0) + 1)
    return a


@named("scaled X beside raw")
def _(a: ad.AnnData) -> ad.AnnData:
    a.raw = a.copy()
    return INPUTS["scaled X"](a)


@named("counts")
def _(a: ad.AnnData) -> ad.AnnData:
    a.X = a.layers["counts"].copy()
    return a


@named("fractional counts")
def _(a: ad.AnnData) -> ad.AnnData:
    a.X = (0.9 * a.layers["counts"]).astype(np.float32)
    return a


@named("integer counts")
def _(a: ad.AnnData) -> ad.AnnData:
    a.X = a.layers["counts"].astype(np.int32)
    return a


@named("no coordinates")
def _(a: ad.AnnData) -> ad.AnnData:
    del a.obsm["spatial"]
    return a


@named("a table of coordinates")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obsm["spatial"] = pd.DataFrame(np.asarray(a.obsm["spatial"]), index=a.obs_names, columns=["x", "y"])
    return a


@named("a table of words")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obsm["spatial"] = pd.DataFrame({"x": ["left"] * a.n_obs, "y": ["top"] * a.n_obs}, index=a.obs_names)
    return a


@named("no column of slides")
def _(a: ad.AnnData) -> ad.AnnData:
    del a.obs["slide"]
    return a


@named("a slide of three cells")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obs["slide"] = pd.Categorical(["tiny"] * 3 + ["d"] * (a.n_obs - 3))
    return a


@named("results are there of another kind")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obs["ipar_uncertainty"] = pd.Categorical(["high"] * a.n_obs)
    a.obsm["X_ipar"] = pd.DataFrame({"one": np.zeros(a.n_obs)}, index=a.obs_names)
    return a


@named("uns is of another kind")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["ipar"] = "a note"
    return a


@named("cells sorted")
def _(a: ad.AnnData) -> ad.AnnData:
    return a[np.random.default_rng(0).permutation(a.n_obs)].copy()


@named("cells renamed")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obs_names = [f"other{i}" for i in range(a.n_obs)]
    return a


@named("records removed")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns.clear()
    return a


@named("layout removed")
def _(a: ad.AnnData) -> ad.AnnData:
    del a.obsm["X_ipar"]
    return a


@named("layout of NaN")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obsm["X_ipar"] = np.full((a.n_obs, 2), np.nan, dtype=np.float32)
    return a


@named("layout of words")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obsm["X_ipar"] = np.full((a.n_obs, 2), "here")
    return a


@named("layout of three columns")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obsm["X_ipar"] = np.zeros((a.n_obs, 3), dtype=np.float32)
    return a


@named("a palette by name")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["type_colors"] = {"p": "red", "q": "#0000ff"}
    return a


@named("a palette of no colours")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["type_colors"] = ["red", "no colour"]
    return a


@named("a palette too short")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["type_colors"] = ["red"]
    return a


@named("a type missing")
def _(a: ad.AnnData) -> ad.AnnData:
    a.obs["type"] = a.obs["type"].where(np.arange(a.n_obs) > 2)
    return a


@named("records of another kind")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["ipar"] = dict.fromkeys(
        ("history", "attention", "gap", "localisability", "regions", "diagnostics", "prediction"), 5
    )
    return a


@named("other records of another kind")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns |= {"ipar_embed": "a note", "ipar_candidates": ["a", "note"]}
    a.obsm["X_ipar_embed"] = np.zeros((a.n_obs, 2))
    return a


@named("a palette that is a number")
def _(a: ad.AnnData) -> ad.AnnData:
    a.uns["type_colors"] = 5
    return a
