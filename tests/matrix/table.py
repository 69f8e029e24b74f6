"""The matrix: what is called, with which input or options, and what is expected. A line adds a row, or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from tests.matrix.outcomes import OK, CommandError, Outcome, Row, refused, warned

PLACE = ("tl.predict_coords", "tl.sample_coords", "tl.map_to_reference", "tl.attention", "tl.predict_regions")
READ = (*PLACE, "pp.embed by model", "tl.adapt", "tl.impute")
FIT = ("pp.embed", "tl.fit_ipalite", "tl.fit_iga")
TRUTH = ("tl.decompose_gap", "tl.optimise_coords", "pp.cell_ellipses")
PLOT = ("pl.coords", "pl.coord_progression", "pl.shepard", "pl.uncertainty", "pl.samples", "pl.regions", "pl.ellipses")
METRICS = ("metrics.evaluate", "metrics.knn_hit", "metrics.e_geo", "metrics.luna_spearman", "metrics.procrustes_align")


def each(calls: tuple[str, ...] | str, given: str, outcome: Outcome, **options: Any) -> list[Row]:
    """A row for every call."""
    return [Row(call, given, outcome, options) for call in ((calls,) if isinstance(calls, str) else calls)]


def options(calls: tuple[str, ...] | str, name: str, outcome: Outcome, *values: Any) -> list[Row]:
    """A row for every call and value of an option."""
    return [row for value in values for row in each(calls, "as it is", outcome, **{name: value})]


def fails(says: str) -> Outcome:
    """A command ends with status 2, and says this."""
    return refused(CommandError, says)


def kind(name: str, wanted: str) -> Outcome:
    """The option is of another kind than it must be."""
    return refused(TypeError, f"^{name} must be {wanted}.*found .* of type ")


def bound(name: str, wanted: str) -> Outcome:
    """The option is of the right kind, and not usable."""
    return refused(ValueError, f"^{name} must {wanted}.*found ")


INT = "an integer"
PAIRS = {
    "as it is": lambda p: p,
    "lists": lambda p: {name: one.tolist() for name, one in p.items()},
    "float32": lambda p: {name: one.astype(np.float32) for name, one in p.items()},
    "integers": lambda p: {name: (100 * one).astype(int) for name, one in p.items()},
    "NaN": lambda p: p | {"pred": np.where(np.arange(60)[:, None] == 3, np.nan, p["pred"])},
    "inf": lambda p: p | {"pred": np.where(np.arange(60)[:, None] == 3, np.inf, p["pred"])},
    "words": lambda p: p | {"pred": p["pred"].astype(str)},
    "objects that are no numbers": lambda p: p | {"pred": np.array([["a", None]] * 60, dtype=object)},
    "sparse": lambda p: p | {"pred": sparse.csr_matrix(p["pred"])},
    "complex": lambda p: p | {"pred": p["pred"] + 1j},
    "masked": lambda p: p | {"pred": np.ma.MaskedArray(p["pred"], mask=p["pred"] > 1)},
    "three columns": lambda p: {name: np.c_[one, one[:, 0]] for name, one in p.items()},
    "fewer cells": lambda p: p | {"pred": p["pred"][:50]},
    "three cells": lambda p: {name: one[:3] for name, one in p.items()},
    "no cells": lambda p: {name: one[:0] for name, one in p.items()},
    "truth on one point": lambda p: p | {"true": np.ones((60, 2))},
    "prediction on one point": lambda p: p | {"pred": np.ones((60, 2))},
    "a string": lambda p: p | {"pred": "X_ipar"},
    "None": lambda p: p | {"pred": None},
}

EXPRESSION = [
    *each(READ, "as it is", OK),
    *each(READ, "dense X", OK),
    *each("tl.predict_coords", "Fortran X", OK),
    *each("tl.predict_coords", "CSC X", OK),
    *each("tl.predict_coords", "CSR array X", OK),
    *each("tl.predict_coords", "float64 X", OK),
    *each("tl.predict_coords", "float16 X", OK),
    *each("tl.predict_coords", "unsorted indices", OK),
    *each("tl.predict_coords", "explicit zeros", OK),
    *each(READ, "NaN in X", refused(ValueError, "X has NaN or infinite values.*cell 7, gene 3: remove these")),
    *each("tl.predict_coords", "inf in X", refused(ValueError, "X has NaN or infinite values.*remove these")),
    *each("tl.predict_coords", "-inf in X", refused(ValueError, "X has NaN or infinite values.*remove these")),
    *each(
        READ,
        "negative X",
        refused(ValueError, "not scaled values or residuals.*minimum of -2: use the matrix from before"),
    ),
    *each("tl.predict_coords", "scaled X", refused(ValueError, "not scaled.*use the matrix from before sc.pp.scale")),
    *each("tl.predict_coords", "scaled X beside raw", refused(ValueError, r"start from adata.raw.to_adata\(\)")),
    *each(
        "tl.predict_coords",
        "huge X",
        refused(ValueError, r"maximum of 4000.5: from counts, call sc.pp.normalize_total\(adata\), then"),
    ),
    *each("tl.predict_coords", "X of words", refused(TypeError, "must hold real numbers, found dtype <U.*: convert")),
    *each(
        "tl.predict_coords", "X of objects", refused(TypeError, "must hold real numbers, found dtype object: convert")
    ),
    *each(READ, "complex X", refused(TypeError, "X must hold real numbers, found dtype complex64: convert")),
    *each(READ, "masked X", refused(TypeError, r"X must be a numpy array or.*MaskedArray: fill .*\.filled")),
    *each("tl.predict_coords", "stored zeros in X", OK),
    *each(PLACE, "one profile", OK),
    *each(PLACE, "two profiles", OK),
    *each("tl.predict_coords", "binary X", refused(ValueError, "must not be binary, found 0 and 1 alone")),
    *each(READ, "no X", refused(ValueError, "adata.X is empty: store log-normalised expression")),
    *each(("tl.predict_coords", "pp.embed by model"), "counts", warned("looks like raw counts.*A copy was brought")),
    *each("tl.predict_coords", "integer counts", warned("looks like raw counts.*A copy was brought")),
    *each("tl.predict_coords", "fractional counts", warned("looks like.*normalize_total.*log1p")),
    *each(
        ("tl.predict_coords", "tl.sample_coords"),
        "an empty cell",
        warned("1 of 120 cells have no counts.*filter_cells"),
    ),
    *each("tl.predict_coords", "empty X", warned("120 of 120 cells have no counts.*filter_cells")),
]
SHAPES = [
    *each((*READ, *FIT, *TRUTH, "tl.cross_validate"), "no cells", refused(ValueError, "no cells|have no genes")),
    *each(
        "tl.predict_coords",
        "one cell",
        refused(ValueError, "At least 5 cells are needed for a layout, found 1: add cells"),
    ),
    *each(
        "tl.predict_coords",
        "three cells",
        refused(ValueError, "At least 5 cells are needed.*found 3: add cells.*reference"),
    ),
    *each("tl.sample_coords", "four cells", refused(ValueError, "At least 5 cells are needed.*found 4: add cells")),
    *each(
        "tl.predict_coords",
        "four cells",
        refused(ValueError, "At least 5 cells are needed.*found 4: add cells.*reference"),
    ),
    *each("tl.sample_coords", "five cells", OK),
    *each(("tl.predict_coords on a", "tl.map_to_reference", "pp.embed by model"), "one cell", OK),
    *each(
        "tl.predict_coords",
        "a slide of three cells",
        refused(ValueError, "found 3 in slide 'tiny': add cells"),
        library_key="slide",
    ),
    *each(
        "tl.sample_coords",
        "a slide of three cells",
        refused(ValueError, "found 3 in slide 'tiny'"),
        library_key="slide",
    ),
    *each(FIT, "one cell", refused(ValueError, "needs at least 200 cells.*found 1: add cells")),
    *each(("tl.predict_coords", "tl.map_to_reference"), "one gene", refused(ValueError, "genes")),
    *each("tl.predict_coords", "no genes", refused(ValueError, "genes")),
    *each("tl.predict_coords", "a tenth of the genes", refused(ValueError, "genes")),
    *each("tl.predict_coords", "other genes", refused(ValueError, "genes.*(gene_key|var_names)")),
    *each("tl.predict_coords", "half of the genes", warned("30 of the model's 60 genes are missing")),
    *each(READ[:4], "genes in another order", OK),
    *each(READ, "genes repeat", refused(ValueError, "gene1.*more than once: call adata.var_names_make_unique")),
    *each(
        ("tl.predict_coords", *FIT),
        "cells repeat",
        refused(ValueError, "more than once: call adata.obs_names_make_unique"),
    ),
    *each((*PLACE, "pp.cell_ellipses", "tl.optimise_coords"), "a view", OK),
    *each("tl.predict_coords", "a view of some cells", OK),
    *each(("tl.predict_coords", "tl.sample_coords"), "results are there of another kind", OK),
    *each("tl.predict_coords", "cells sorted", OK),
]
SLIDES = [
    *each(
        PLACE[:3],
        "slides of numbers",
        refused(TypeError, r"must be categorical or of strings, found dtype int.*astype"),
        library_key="slide",
    ),
    *each(
        ("tl.predict_coords", "pp.embed"),
        "slides of fractions",
        refused(TypeError, "must be categorical or of strings, found dtype float"),
        library_key="slide",
    ),
    *each(
        "tl.predict_coords",
        "slides of booleans",
        refused(TypeError, "must be categorical or of strings, found dtype bool"),
        library_key="slide",
    ),
    *each(
        PLACE[:3],
        "slides missing",
        refused(ValueError, "must have a slide for every cell, found 120 missing values: fill them"),
        library_key="slide",
    ),
    *each(
        FIT,
        "slides missing",
        refused(ValueError, "must have a slide for every cell, found 360 missing values: fill them"),
    ),
    *each(
        (*PLACE, "tl.decompose_gap"),
        "no column of slides",
        refused(KeyError, "no column 'slide': name the column"),
        library_key="slide",
    ),
    *each(FIT, "no column of slides", refused(KeyError, "no column 'slide': name the column")),
    *each(
        "tl.predict_coords",
        "two slides of one name",
        refused(ValueError, "two slides of one name, '1'"),
        library_key="slide",
    ),
    *each("tl.predict_coords", "two slides", OK, library_key="slide"),
    *each(
        tuple(call for call in PLACE if call != "tl.attention"),
        "two slides",
        warned("placed as one section.*library_key='slide'"),
    ),
    *each("tl.predict_coords", "slides of strings", OK, library_key="slide"),
    *each("tl.predict_coords", "slides of pandas strings", OK, library_key="slide"),
    *each("tl.predict_coords", "slides of unused categories", OK, library_key="slide"),
]
COORDS = [
    *each((*TRUTH, *FIT), "no coordinates", refused(KeyError, "adata.obsm has no 'spatial': name the key")),
    *each(
        (*TRUTH, *FIT),
        "NaN coordinate",
        refused(ValueError, "must be finite, found NaN or infinite values in 1 cells: remove"),
    ),
    *each(
        TRUTH, "inf coordinate", refused(ValueError, "must be finite, found NaN or infinite values in 1 cells: remove")
    ),
    *each(
        (*TRUTH, *FIT, "tl.attention"),
        "coordinates of words",
        refused(TypeError, "must be a dense array of numbers, found dtype"),
    ),
    *each(
        TRUTH,
        "coordinates of objects",
        refused(TypeError, "must be a dense array of numbers, found dtype object.*astype"),
    ),
    *each(
        (*TRUTH, *FIT), "sparse coordinates", refused(TypeError, r"found a sparse matrix: convert it by .toarray\(\)")
    ),
    *each(TRUTH, "complex coordinates", refused(TypeError, "must be a dense array of numbers, found dtype complex")),
    *each(
        TRUTH,
        "a table of words",
        refused(TypeError, "must be a dense array of numbers, found dtype object, such as 'left'"),
    ),
    *each(TRUTH, "one column", refused(ValueError, r"must have shape .*found \(120, 1\): keep the columns")),
    *each(
        ("tl.decompose_gap", "tl.optimise_coords"),
        "three columns",
        refused(ValueError, r"must have shape .*found \(120, 3\): keep the columns"),
    ),
    *each("pp.cell_ellipses", "three columns", OK),
    *each(
        ("tl.decompose_gap", "tl.optimise_coords"),
        "coincident cells",
        refused(ValueError, "only 1 distinct positions for 120 cells: check"),
    ),
    *each(TRUTH, "a table of coordinates", OK),
    *each(TRUTH, "float32 coordinates", OK),
    *each(TRUTH[:2], "integer coordinates", OK),
]
OPTIONS = [
    *options(
        FIT,
        "random_state",
        kind("random_state", "an integer or a numpy Generator or None|an integer, a numpy Generator or None"),
        "0",
        1.5,
        [1],
    ),
    *options((*FIT, *PLACE), "random_state", refused(ValueError, "must not be negative|must lie|random_state"), -1),
    *options(
        ("tl.predict_coords", "tl.fit_ipalite", "pp.embed"), "device", kind("device", "a string or a device"), None, 0
    ),
    *options(
        ("tl.predict_coords", "tl.fit_ipalite"),
        "device",
        refused(ValueError, "Device .* is not available.*'auto' or 'cpu'"),
        "nowhere",
        "cuda",
        "meta",
        "mps",
    ),
    *options("tl.fit_ipalite", "max_epochs", kind("max_epochs", INT), "8", 2.5, True, [2], np.float64(3)),
    *options(("tl.fit_ipalite", "tl.fit_iga"), "max_epochs", bound("max_epochs", "be at least 1"), 0, -1),
    *options(("tl.fit_ipalite", "tl.fit_iga"), "n_neighbors", bound("n_neighbors", "be at least 1"), 0, -1),
    *options("tl.fit_ipalite", "n_neighbors", kind("n_neighbors", INT), "100", float("nan"), 10.0),
    *options(
        "tl.fit_ipalite",
        "config",
        refused(ValueError, r"config must be one of \('v1', 'v2', 'd7', 'ipar2d'\).*found 'v9'"),
        "v9",
    ),
    *options(
        "tl.fit_ipalite",
        "config",
        kind("config", "an IPALiteConfig or a string or None|an IPALiteConfig, a string or None"),
        1,
        {"n_recycles": 2},
    ),
    *options("tl.fit_ipalite", "quality", bound("quality", "be one of"), "good", None, 3),
    *options("tl.fit_ipalite", "recipe", kind("recipe", "a Recipe"), "fast", {}),
    *options("tl.fit_ipalite", "flow", kind("flow", "True or False"), 1, "yes"),
    *options("tl.fit_ipalite", "spatial_key", kind("spatial_key", "a string"), None, 3),
    *options("tl.fit_ipalite", "mask_var", refused(KeyError, "no column 'none': name a boolean column"), "none"),
    *options((*FIT, *PLACE), "layer", refused(KeyError, "no 'none', found .*: name one of these as layer"), "none"),
    *options(
        ("tl.fit_ipalite", "tl.predict_coords"), "gene_key", refused(KeyError, "no column 'none'.*gene_key"), "none"
    ),
    *options("tl.fit_ipalite", "use_rep", refused(KeyError, "no 'X_none'.*use_rep"), "X_none"),
    *options("pp.embed", "n_folds", bound("n_folds", "be at least 2"), 1, 0),
    *options("pp.embed", "n_folds", kind("n_folds", INT), 2.5, "3"),
    *options("pp.embed", "inputs", bound("inputs", "be one of"), "all", 3),
    *options("pp.embed", "recipe", kind("recipe", "an EncoderRecipe"), "fast"),
    *options("pp.candidates", "n_neighbors", bound("n_neighbors", "be at least 1"), 0, -5),
    *options("pp.candidates", "n_neighbors", kind("n_neighbors", INT), 3.0, "8", None),
    *each("pp.write_training_store", "as it is", OK),
    *each("pp.write_training_store", "no coordinates", refused(KeyError, "no 'spatial'.*spatial_key")),
    *options("pp.write_training_store", "path", kind("path", "a string or a.*Path"), 3),
    *options("pp.write_training_store", "path", refused(FileExistsError, "is not a training store"), "/tmp"),
    *options("pp.write_training_store", "layer", refused(KeyError, "no 'none', found .*as layer"), "none"),
    *options("pp.read_training_store", "path", refused(FileNotFoundError, "write_training_store"), "FOLDER/none.zarr"),
    *options("pp.read_training_store", "path", refused(ValueError, "is not a training store"), "FOLDER/model"),
    *options("pp.candidates", "metric", refused(ValueError, "metric"), "nonsense"),
    *options("pp.candidates", "use_rep", refused(KeyError, "no 'X_none'.*use_rep"), "X_none"),
    *options("pp.cell_ellipses", "n_neighbors", bound("n_neighbors", "be at least"), 0, 2),
    *options("pp.cell_ellipses", "shapes", refused(ValueError, "outlines, found"), [1, 2]),
    *options("pp.cell_ellipses", "moments", refused((KeyError, ValueError, TypeError), "moments"), "none", [[1]], 3.0),
    *options(PLACE, "model", kind("model", "an (IPALite|IGA)"), "a path", {}, 3),
    *options("tl.predict_coords", "reference", refused(ValueError, "no reference|reference"), "z"),
    *options("tl.predict_coords", "transport", bound("transport", "lie between 0 and 1"), -0.1, 2, float("nan")),
    *options("tl.predict_coords", "transport", kind("transport", "a number"), "0", None),
    *options("tl.predict_coords", "global_weight", bound("global_weight", "lie between 0 and 1"), 1.5, float("nan")),
    *options("tl.predict_coords", "flow_weight", bound("flow_weight", "lie between 0 and 1"), -1),
    *options("tl.predict_coords", "n_rounds", bound("n_rounds", "be at least 1"), 0),
    *options("tl.predict_coords", "n_rounds", kind("n_rounds", INT), 1.5, "2"),
    *options("tl.predict_coords", "sharpen", kind("sharpen", "True or False"), "no", None),
    *options(
        ("tl.predict_coords", "tl.sample_coords", "tl.optimise_coords"),
        "key_added",
        refused(ValueError, r"obsm\['spatial'\] holds coordinates already.*choose another key_added"),
        "spatial",
    ),
    *options("tl.predict_coords", "key_added", kind("key_added", "a string"), None, 3),
    *options("tl.predict_coords", "copy", kind("copy", "True or False"), "yes"),
    *options("tl.sample_coords", "n_samples", bound("n_samples", "be at least 1"), 0),
    *options("tl.sample_coords", "n_samples", kind("n_samples", INT), 2.0, "20", None),
    *options("tl.sample_coords", "n_steps", bound("n_steps", "be at least 1"), 0),
    *options("tl.sample_coords", "point", bound("point", "be one of"), "best", None),
    *options("tl.predict_regions", "levels", refused(ValueError, "levels"), (0.9, 0.5), (), (1.5,), (float("nan"),)),
    *options("tl.predict_regions", "levels", kind("levels", "a sequence"), 0.5, "0.5"),
    *options("tl.predict_regions", "samples", bound("samples", "be one of"), "all"),
    *options("tl.map_to_reference", "reference", refused(ValueError, "reference"), "z", None),
    *options("tl.map_to_reference", "balanced", kind("balanced", "True or False"), "yes"),
    *options(
        "tl.attention",
        "query",
        refused(KeyError, "no cells .*: use names in obs_names, or positions"),
        ["none"],
        999,
        -1,
    ),
    *options("tl.attention", "query", refused(ValueError, "query is empty"), []),
    *options("tl.attention", "slide", refused(KeyError, "no slide 'z'"), "z"),
    *options("tl.transfer", "to", bound("to", "be one of|be"), "both"),
    *options("tl.transfer", "obs", refused(KeyError, "none"), "none"),
    *options("tl.impute", "genes", refused(KeyError, "have no genes"), ["none"]),
    *options("tl.impute", "genes", kind("genes", "a sequence"), "gene1"),
    *options("tl.impute", "genes", refused(ValueError, "No genes to impute"), []),
    *options("tl.adapt", "model", kind("model", "an IPALite"), None),
    *options(("tl.decompose_gap", "tl.attention_diagnostics"), "n_minisets", bound("n_minisets", "be at least 1"), 0),
    *options("tl.shuffle_controls", "n_minisets", bound("n_minisets", "be at least 2"), 1),
    *options("tl.decompose_gap", "miniset_size", bound("miniset_size", "be the smallest"), (80, 48)),
    *options(
        "tl.decompose_gap",
        "miniset_size",
        kind("miniset_size", "2 values|a sequence of which each"),
        48,
        (48,),
        ("a", "b"),
    ),
    *options("tl.sweep_beta", "betas", refused(ValueError, "betas"), [], [float("nan")]),
    *options("tl.sweep_beta", "betas", kind("betas", "a sequence"), 0.5, ["a"]),
    *options("tl.optimise_coords", "n_steps", bound("n_steps", "be at least 1"), 0),
    *options("tl.optimise_coords", "n_steps", kind("n_steps", INT), 2.5),
    *options("tl.cross_validate", "slides", refused(ValueError, "no slide 'z'"), ["z"]),
    *options("tl.cross_validate", "controls", refused(ValueError, "no control 'all'"), ["all"]),
    *options("tl.cross_validate", "max_epochs", bound("max_epochs", "be at least 1"), 0),
    *options("tl.ablate_terms", "terms", refused(ValueError, "term must be one"), ["none"]),
    *options("tl.ablate_terms", "max_epochs", bound("max_epochs", "be at least 1"), 0),
    *options("tl.report", "groupby", refused(KeyError, "no column 'none'.*groupby"), "none"),
]
RECORDS = [
    *each(
        (*PLACE, "pp.embed by model")[:4],
        "uns is of another kind",
        refused(TypeError, "must be a dictionary that ipar wrote, found str: delete"),
    ),
    *each(
        ("tl.report", "pl.history", "pl.attention_focus", "pl.gap", "pl.localisability", "pl.regions"),
        "uns is of another kind",
        refused(TypeError, "must be a dictionary that ipar wrote, found str: delete"),
    ),
    *each(
        (
            "pl.history",
            "pl.attention_focus",
            "pl.gap",
            "pl.localisability",
            "pl.regions",
            "pl.diagnostics",
            "tl.report",
        ),
        "records of another kind",
        refused(TypeError, "found int: (run ipar|delete)"),
    ),
    *each(("tl.predict_coords", "tl.predict_regions"), "other records of another kind", OK),
    *options("tl.fit_ipalite", "max_epochs", bound("max_epochs", "be at least 1"), -3),
    *options(
        ("tl.predict_coords", "tl.sample_coords", "pp.candidates", "pp.cell_ellipses"),
        "key_added",
        bound("key_added", "not be empty or hold a slash"),
        "",
        "a/b",
    ),
    *options(
        "pp.candidates",
        "transformer",
        refused(TypeError, "must be a neighbour transformer of scikit-learn, found str: pass"),
        "kd_tree",
    ),
    *each(
        "pl.coords",
        "a palette that is a number",
        refused(TypeError, "must hold a colour for each of 2 labels, found int"),
        color="type",
    ),
    *options("pp.cell_ellipses", "library_key", kind("library_key", "a string or None"), 3, ["slide"]),
    *options("tl.attention", "query", kind("query", "an integer, a string"), [1.5], {1, 2}, 1.5),
]
PLOTS = [
    *each(
        (
            *PLOT,
            "pl.attention_focus",
            "pl.report",
            "pl.on_reference",
            "pl.diagnostics",
            "pl.gap",
            "pl.history",
            "pl.localisability",
            "tl.report",
        ),
        "as it is",
        OK,
    ),
    *each((*PLOT, "pl.attention_focus"), "cells sorted", OK),
    *each("pl.coords", "a view of some cells", OK),
    *each("pl.attention_focus", "a view of some cells", warned("cells that the network read with .* are not in adata")),
    *each(
        "pl.attention_focus",
        "cells renamed",
        refused(ValueError, "none of the cells whose attention is stored.*predict_coords"),
    ),
    *each(
        ("pl.attention_focus", "pl.history", "pl.diagnostics", "pl.gap", "pl.localisability", "pl.regions"),
        "records removed",
        refused(KeyError, "run ipar"),
    ),
    *each(
        ("pl.coords", "pl.coord_progression", "pl.shepard", "pl.report"),
        "layout removed",
        refused(KeyError, "X_ipar.*ipar.tl.predict_coords"),
    ),
    *each(
        ("pl.coords", "pl.shepard"),
        "layout of NaN",
        refused(ValueError, "no cell of this slide has finite coordinates"),
    ),
    *each(
        ("pl.coords", "pl.shepard", "pl.report"),
        "layout of words",
        refused(TypeError, "must be a dense array of numbers"),
    ),
    *each(("pl.coords", "pl.coord_progression"), "layout of three columns", refused(ValueError, "expected")),
    *each("pl.coords", "no coordinates", OK),
    *each("pl.coords", "coordinates of words", refused(TypeError, "must be a dense array of numbers")),
    *each("pl.coords", "three columns", refused(ValueError, "keep the two coordinates")),
    *each("pl.coords", "a palette by name", OK, color="type"),
    *each(
        ("pl.coords", "pl.on_reference"),
        "a palette of no colours",
        refused(ValueError, "type_colors'] has 'no colour', which is no colour"),
        color="type",
    ),
    *each("pl.coords", "a palette too short", OK, color="type"),
    *each("pl.coords", "a type missing", OK, color="type"),
    *options("pl.coords", "color", kind("color", "a string, a sequence.*or None"), 3),
    *options("pl.coords", "color", OK, ["type", "number"]),
    *options("pl.coords", "color", refused(ValueError, "color is an empty list"), ()),
    *options("pl.coords", "color", refused(KeyError, "'none' is neither a column.*pass one of these as color"), "none"),
    *options("pl.coords", "slide", refused(ValueError, "no slide 'z': pass one of"), "z"),
    *options("pl.coords", "ax", refused(ValueError, "ax has 1 object"), "axes", 3),
    *options("pl.coord_progression", "n_cols", bound("n_cols", "be at least 1"), 0),
    *options("pl.attention_focus", "n_top", bound("n_top", "be at least 0"), -1),
    *options("pl.attention_focus", "recycles", refused(ValueError, "recycles are numbered from 1"), 0, 99),
    *options("pl.attention_focus", "heads", refused((TypeError, ValueError), "heads"), 0, 1.5, []),
    *options("pl.regions", "level", refused(ValueError, "level must be one of"), 0.3),
    *options("pl.regions", "n_grid", bound("n_grid", "be at least 1"), 0),
    *options("pl.samples", "n_shown", bound("n_shown", "be at least 0|lie between 0"), -1, 9),
    *options("pl.ellipses", "n_sd", bound("n_sd", "be above 0"), 0.0, -1.0),
    *options("pl.history", "terms", refused((KeyError, ValueError), "none"), ["none"]),
    *options("pl.diagnostics", "measures", refused((KeyError, ValueError), "none"), ["none"]),
    *options("pl.report", "groupby", refused(KeyError, "no column 'none'"), "none"),
]
NUMBERS = [
    *each(
        (
            *METRICS,
            "metrics.evenness",
            "metrics.collapse",
            "metrics.stress1",
            "metrics.rssd",
            "metrics.coverage",
            "metrics.trustworthiness",
        ),
        "as it is",
        OK,
    ),
    *each(METRICS, "lists", OK),
    *each(METRICS, "float32", OK),
    *each(METRICS[:2], "integers", OK),
    *each(METRICS, "NaN", refused(ValueError, "`pred` is NaN or infinite in 1 of 60 cells; drop them")),
    *each(METRICS[:2], "inf", refused(ValueError, "`pred` is NaN or infinite in 1 of 60 cells; drop them")),
    *each(METRICS, "words", refused((TypeError, ValueError), "`pred` must be a dense numeric")),
    *each(METRICS[:2], "objects that are no numbers", refused(TypeError, "`pred` must be a dense numeric")),
    *each(METRICS[:2], "sparse", refused(TypeError, "`pred` must be a dense numeric")),
    *each(METRICS[:2], "complex", refused(TypeError, "`pred` must be a dense numeric")),
    *each(METRICS[:2], "masked", refused(TypeError, "`pred` must be a dense numeric.*masked")),
    *each(METRICS, "three columns", refused(ValueError, r"`true` must have shape \(n_cells, 2\), found \(60, 3\)")),
    *each(METRICS, "fewer cells", refused(ValueError, "`true` has 60 cells and `pred` 50")),
    *each(METRICS, "three cells", refused(ValueError, "has 3 cells; the metrics need at least 4")),
    *each(METRICS[:2], "no cells", refused(ValueError, "has 0 cells; the metrics need at least 4")),
    *each(METRICS, "truth on one point", refused(ValueError, "all cells of `true` lie on one point")),
    *each(METRICS[:1], "a string", refused((TypeError, ValueError), "`pred` must")),
    *each(METRICS[:1], "None", refused((TypeError, ValueError), "`pred` must")),
    *options("metrics.knn_hit", "n_neighbors", kind("n_neighbors", INT), 2.0, "20", None, float("nan")),
    *options("metrics.knn_hit", "n_neighbors", refused(ValueError, "`n_neighbors` must lie between 1 and 59"), 0, 60),
    *options("metrics.evaluate", "n_neighbors", kind("n_neighbors", "a sequence"), 10, "10"),
    *options("metrics.evaluate", "uncertainty", refused((TypeError, ValueError), "`uncertainty` must"), [1.0], "high"),
    *options("metrics.contact_f1", "quantile", bound("quantile", "lie strictly between 0 and 1"), 0, 1, -0.1),
    *options("metrics.luna_spearman", "reduce", bound("reduce", "be one of"), "max"),
    *options("metrics.coverage", "n_bins", refused((TypeError, ValueError), "n_bins"), 0, 2.5),
    *options("metrics.e_geo_minisets", "n_minisets", refused((TypeError, ValueError), "n_minisets"), 0, "2"),
    *options("metrics.e_geo_minisets", "size", refused((TypeError, ValueError), "size"), 3, (80, 40)),
    *options("metrics.evaluate_slides", "slides", refused(ValueError, "slides"), ["s"], [None] * 60),
    *options(
        "metrics.certain_half_error", "uncertainty", refused((TypeError, ValueError), "uncertainty"), [1.0], ["a"] * 9
    ),
    *options("datasets.layered_tissue", "n_slides", refused((TypeError, ValueError), "n_slides"), 0, 1.5, "3"),
    *options("baselines.permuted", "random_state", kind("random_state", ".*integer"), "0"),
]
PREDICT = "FOLDER/query.h5ad --model FOLDER/model -o FOLDER/out.h5ad"
FILES = [
    *each("ipar predict", PREDICT, OK),
    *each("ipar predict", f"{PREDICT} --reference a", OK),
    *each("ipar predict", "FOLDER/none.h5ad --model FOLDER/model -o FOLDER/out.h5ad", fails("none.h5ad: no such file")),
    *each(
        "ipar predict",
        "FOLDER/model/config.json --model FOLDER/model -o FOLDER/out.h5ad",
        fails("is not an h5ad file that anndata can read"),
    ),
    *each("ipar predict", "FOLDER/query.h5ad --model FOLDER/none -o FOLDER/out.h5ad", fails("none")),
    *each("ipar predict", "FOLDER/query.h5ad --model FOLDER/query.h5ad -o FOLDER/out.h5ad", fails("query.h5ad")),
    *each("ipar predict", "FOLDER/query.h5ad --model FOLDER/model -o FOLDER/model", fails("FOLDER|model")),
    *each("ipar predict", f"{PREDICT} --transport 2", fails("transport must lie between 0 and 1, found 2")),
    *each("ipar predict", f"{PREDICT} --transport far", fails("invalid float value: 'far'")),
    *each("ipar predict", f"{PREDICT} --n-rounds 0", fails("n_rounds must be at least 1")),
    *each("ipar predict", f"{PREDICT} --reference z", fails("reference")),
    *each("ipar predict", f"{PREDICT} --library-key none", fails("no column 'none'")),
    *each("ipar predict", f"{PREDICT} --layer none", fails("adata.layers has no 'none', found")),
    *each("ipar predict", f"{PREDICT} --gene-key none", fails("no column 'none'")),
    *each("ipar predict", f"{PREDICT} --device nowhere", fails("Device 'nowhere' is not available")),
    *each("ipar predict", f"{PREDICT} --seed -1", fails("random_state|seed")),
    *each("ipar predict", f"{PREDICT} --seed one", fails("invalid int value: 'one'")),
    *each(
        "ipar predict",
        f"{PREDICT} --library-key number",
        fails(r"must be categorical or of strings.*To change the file, in Python: adata = anndata.read_h5ad\(path\)"),
    ),
    *each("ipar fit", "--model FOLDER/query.h5ad", fails("query.h5ad exists and is not a model's directory")),
    *each("ipar fit", "--model FOLDER", fails("exists and is not a model's directory")),
    *each("ipar fit", "--model FOLDER/m --n-neighbors 0", fails("n_neighbors must be at least 1, found 0")),
    *each("ipar fit", "--model FOLDER/m --n-neighbors many", fails("invalid int value: 'many'")),
    *each("ipar fit", "--model FOLDER/m --config v9", fails("invalid choice: 'v9'")),
    *each("ipar fit", "--model FOLDER/m --quality good", fails("invalid choice: 'good'")),
    *each("ipar fit", "--model FOLDER/m --spatial-key none", fails("no 'none'.*(spatial_key|--spatial-key)")),
    *each("ipar fit", "--model FOLDER/m --library-key none", fails("no column 'none'")),
    *each("ipar fit", "--model FOLDER/m --device nowhere", fails("Device 'nowhere' is not available")),
    *each("ipar evaluate", "FOLDER/placed.h5ad", OK),
    *each("ipar evaluate", "FOLDER/placed.h5ad --json --library-key slide", OK),
    *each("ipar evaluate", "FOLDER/query.h5ad", fails("obsm has no 'X_ipar', found .*--use-rep")),
    *each("ipar evaluate", "FOLDER/placed.h5ad --library-key none", fails("no column 'none'.*--library-key")),
    *each("ipar evaluate", "FOLDER/none.h5ad", fails("none.h5ad: no such file")),
    *options("load", "path", refused((OSError, ValueError, TypeError), "."), "none", None, 3, "", "FOLDER/query.h5ad"),
]
ROWS: list[Row] = [*EXPRESSION, *SHAPES, *SLIDES, *COORDS, *OPTIONS, *RECORDS, *PLOTS, *NUMBERS, *FILES]
