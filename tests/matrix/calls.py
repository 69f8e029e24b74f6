"""The calls of the matrix, by name: what each takes, and what it may write."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

import ipar
from ipar._cli import main
from tests.matrix.outcomes import CommandError
from tests.matrix.world import World

Base = Literal["slides", "train", "query", "placed", "pair", "tensors", "files", "none"]


@dataclass(frozen=True)
class Call:
    """A public function as the matrix calls it.

    Attributes
    ----------
    run
        Takes the world, the input and options.
    base
        What of the world is the input, before it is spoilt.
    writes
        Keys of the AnnData that it may write, by what they begin with.
    copies
        Whether it has ``copy``.
    """

    run: Callable[..., Any]
    base: Base
    writes: tuple[str, ...] = ()
    copies: bool = False


def placing(function: Callable[..., Any], *writes: str, **options: Any) -> Call:
    """A function of cells and the model."""

    def run(world: World, adata: Any, **own: Any) -> Any:
        return function(
            adata,
            **{"model": world.model}
            | ({"progress": False} if function is not ipar.tl.attention else {})
            | options
            | own,
        )

    return Call(run, "query", writes, copies=True)


def measuring(function: Callable[..., Any], key: str) -> Call:
    """A function of slides with coordinates and the model."""
    quick = {"n_minisets": 2, "miniset_size": (48, 60), "progress": False}

    def run(world: World, adata: Any, **own: Any) -> Any:
        return function(adata, **{"model": world.model} | quick | own)

    return Call(run, "query", ("uns/ipar",))


def drawing(function: Callable[..., Any], base: Base = "placed") -> Call:
    """A plot."""

    def run(world: World, adata: Any, **own: Any) -> Any:
        figures = function(adata, **{"return_fig": True} | own)
        for figure in figures if isinstance(figures, list) else [figures]:
            figure.canvas.draw()

    return Call(run, base, ("uns/type_colors",))


def of_pair(function: Callable[..., Any]) -> Call:
    """A metric of two layouts."""
    return Call(lambda world, pair, **own: function(**pair, **own), "pair")


def command(*arguments: str) -> Call:
    """A command, to whose arguments the input adds some."""

    def run(world: World, more: list[str], **_own: Any) -> Any:
        said = io.StringIO()
        given = [one.replace("FOLDER", str(world.folder)) for one in (*arguments, *more)]
        with redirect_stderr(said):
            try:
                status = main(given)
            except SystemExit as ended:  # by the parser of arguments
                status = ended.code
        if status != 0:
            assert (status, "Traceback" in said.getvalue()) == (2, False)
            raise CommandError(said.getvalue())

    return Call(run, "files")


def _stored(world: World, adata: Any, **own: Any) -> None:
    with TemporaryDirectory() as folder:
        how = {"path": f"{folder}/store.zarr", "library_key": "slide", "progress": False} | own
        ipar.pp.write_training_store(adata, **how)


_PLACED = ("obsm/X_ipar", "obs/ipar_", "uns/ipar", "obsp/ipar_candidates", "obsm/X_ipar_embed")
_FIT = ("obsm/X_ipar_embed", "uns/ipar", "obs/ipar_part", "var/ipar_gene_weight")

CALLS: dict[str, Call] = {
    "pp.embed": Call(
        lambda w, a, **own: ipar.pp.embed(a, **{"library_key": "slide", "progress": False} | own),
        "slides",
        _FIT,
        copies=True,
    ),
    "pp.embed by model": placing(ipar.pp.embed, "obsm/X_ipar_embed", "uns/ipar_embed"),
    "pp.candidates": Call(
        lambda w, a, **own: ipar.pp.candidates(a, **{"n_neighbors": 10} | own),
        "placed",
        ("obsp/ipar_candidates", "uns/ipar_candidates"),
        copies=True,
    ),
    "pp.cell_ellipses": Call(
        lambda w, a, **own: ipar.pp.cell_ellipses(a, **own), "query", ("obsm/ellipse", "uns/ellipse"), copies=True
    ),
    "pp.write_training_store": Call(_stored, "slides"),
    "pp.read_training_store": Call(
        lambda w, _, path, **own: ipar.pp.read_training_store(path.replace("FOLDER", str(w.folder)), **own), "none"
    ),
    "tl.fit_ipalite": Call(
        lambda w, a, **own: ipar.tl.fit_ipalite(a, **{"library_key": "slide", "progress": False} | own), "slides", _FIT
    ),
    "tl.fit_iga": Call(
        lambda w, a, **own: ipar.tl.fit_iga(a, **{"library_key": "slide", "progress": False} | own), "slides", _FIT
    ),
    "tl.cross_validate": Call(
        lambda w, a, **own: ipar.tl.cross_validate(a, **{"library_key": "slide", "progress": False} | own),
        "slides",
        ("uns/ipar",),
    ),
    "tl.ablate_terms": Call(
        lambda w, a, **own: ipar.tl.ablate_terms(
            a, **{"train": w.slides.copy(), "library_key": "slide", "progress": False} | own
        ),
        "query",
        ("uns/ipar",),
    ),
    "tl.predict_coords": placing(ipar.tl.predict_coords, *_PLACED),
    "tl.predict_coords on a": placing(ipar.tl.predict_coords, *_PLACED, reference="a"),
    "tl.sample_coords": placing(ipar.tl.sample_coords, *_PLACED, n_samples=2, n_steps=2),
    "tl.predict_regions": placing(ipar.tl.predict_regions, *_PLACED),
    "tl.map_to_reference": placing(
        ipar.tl.map_to_reference, "obsm/ipar_map", "obs/ipar_map", "uns/ipar", reference="a"
    ),
    "tl.attention": placing(ipar.tl.attention, "uns/ipar"),
    "tl.adapt": Call(lambda w, a, **own: ipar.tl.adapt(**{"model": w.model, "cells": a} | own), "query"),
    "tl.impute": Call(
        lambda w, a, **own: ipar.tl.impute(
            **{
                "section": w.slides[w.slides.obs["slide"] == "a"].copy(),
                "cells": a,
                "model": w.model,
                "reference": "a",
                "genes": ["gene1"],
            }
            | own
        ),
        "query",
    ),
    "tl.transfer": Call(
        lambda w, a, **own: ipar.tl.transfer(
            **{
                "section": w.slides[w.slides.obs["slide"] == "a"].copy(),
                "cells": a,
                "model": w.model,
                "reference": "a",
                "obs": "type",
                "to": "cells",
            }
            | own
        ),
        "query",
        ("obs/ipar_type", "obsm/ipar_type"),
        copies=True,
    ),
    "tl.report": Call(lambda w, a, **own: ipar.tl.report(a, **{"model": w.model} | own), "placed"),
    "tl.attention_diagnostics": measuring(ipar.tl.attention_diagnostics, "diagnostics"),
    "tl.decompose_gap": measuring(ipar.tl.decompose_gap, "gap"),
    "tl.shuffle_controls": measuring(ipar.tl.shuffle_controls, "shuffle_controls"),
    "tl.sweep_beta": measuring(ipar.tl.sweep_beta, "beta_sweep"),
    "tl.optimise_coords": Call(
        lambda w, a, **own: ipar.tl.optimise_coords(a, **{"n_steps": 2, "progress": False} | own),
        "query",
        ("obsm/X_ipar_oracle", "uns/ipar"),
        copies=True,
    ),
    "pl.report": Call(lambda w, a, **own: ipar.pl.report(a, **{"model": w.model, "return_fig": True} | own), "placed"),
    "pl.on_reference": Call(
        lambda w, a, **own: ipar.pl.on_reference(
            a, **{"section": w.slides[w.slides.obs["slide"] == "a"].copy(), "return_fig": True} | own
        ),
        "placed",
    ),
}
CALLS |= {
    f"pl.{name}": drawing(getattr(ipar.pl, name))
    for name in (
        *(
            "attention_focus",
            "coord_progression",
            "coords",
            "diagnostics",
            "ellipses",
            "gap",
            "history",
            "localisability",
        ),
        *("regions", "samples", "shepard", "uncertainty"),
    )
}
CALLS["pl.samples"] = Call(
    lambda w, a, **own: ipar.pl.samples(a, **{"use_rep": "X_drawn", "return_fig": True} | own), "placed"
)
CALLS |= {
    f"metrics.{name}": of_pair(getattr(ipar.metrics, name))
    for name in (
        *(
            "cell_errors",
            "contact_f1",
            "continuity",
            "coverage",
            "distance_pearson",
            "e_geo",
            "e_geo_minisets",
            "evaluate",
        ),
        *("knn_hit", "luna_spearman", "procrustes_align", "procrustes_error", "rssd", "stress1", "trustworthiness"),
    )
}
CALLS |= {
    "metrics.evenness": Call(lambda w, pair, **own: ipar.metrics.evenness(pair["pred"], **own), "pair"),
    "metrics.collapse": Call(lambda w, pair, **own: ipar.metrics.collapse(pair["pred"], **own), "pair"),
    "metrics.evaluate_slides": Call(
        lambda w, pair, **own: ipar.metrics.evaluate_slides(**pair | {"slides": ["s"] * 60} | own), "pair"
    ),
    "metrics.certain_half_error": Call(
        lambda w, pair, **own: ipar.metrics.certain_half_error(
            **{"error": np.arange(9.0), "uncertainty": np.arange(9.0)} | own
        ),
        "none",
    ),
    "load": Call(lambda w, _, path: ipar.load(str(path).replace("FOLDER", str(w.folder))), "none"),
    "ipar fit": command("fit", "FOLDER/slides.h5ad", "--quiet"),
    "ipar predict": command("predict", "--quiet"),
    "ipar evaluate": command("evaluate"),
    "datasets.layered_tissue": Call(
        lambda w, _, **own: ipar.datasets.layered_tissue(**{"n_cells": 60, "n_slides": 1} | own), "none"
    ),
    "baselines.permuted": Call(
        lambda w, pair, **own: ipar.baselines.permuted(**{"coords": pair["true"]} | own), "pair"
    ),
}
