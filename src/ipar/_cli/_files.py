"""Commands on files."""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np

import ipar
from ipar._anndata import raw_coords
from ipar._files import as_path, directory_of, replaced, replaced_directory, target_of
from ipar._slots import check_slots, size_of
from ipar._space import check_space

ZARR, A_ZARR = ".zarr", "a zarr store"


def read(path: str) -> ad.AnnData:
    """Read an h5ad file, or a zarr store where the name ends so."""
    where = found(path)
    with understood(path):
        adata = (ad.read_zarr if in_zarr(where) else ad.read_h5ad)(where)
    with named(path):
        check_slots(adata)
    return adata


@contextmanager
def named(path: str) -> Iterator[None]:
    """Name the file in any ValueError that is raised within."""
    try:
        yield
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def found(path: str) -> Path:
    """The path of a file, or of a zarr store where the name ends so, that can be read; raises OSError if there is none."""
    where = as_path(path, "name an h5ad file or a zarr store")
    zarr = in_zarr(where)
    if not (where.is_dir() if zarr else where.is_file()):
        there = f", which is not a {'directory' if zarr else 'file'}" if where.exists() else ""
        msg = f"{path}: no such {'zarr store' if zarr else 'file'}{there}."
        raise FileNotFoundError(msg)
    if not os.access(where, os.R_OK):
        msg = f"{path} cannot be read: look at its permissions."
        raise PermissionError(msg)
    return where


@contextmanager
def understood(path: str) -> Iterator[None]:
    """Raise ValueError that names the file, if reading it fails within."""
    kind, call = ("a zarr store", "write_zarr") if in_zarr(as_path(path)) else ("an h5ad file", "write_h5ad")
    try:
        yield
    except Exception as error:  # a broken file may raise anything
        msg = f"{path} is not {kind} that anndata can read ({_said(error)}): write it with adata.{call}()."
        raise ValueError(msg) from error


def write(adata: ad.AnnData, path: str | Path) -> None:
    """Write an h5ad file, or a zarr store where the name ends so, as a whole: an interrupted write leaves the old one."""
    if in_zarr(as_path(path)):
        with replaced_directory(path, is_zarr, A_ZARR, size=size_of(adata)) as staging:
            with told(path):
                adata.write_zarr(staging)
    else:
        adata.strings_to_categoricals()  # as write_h5ad does
        content = io.BytesIO()  # HDF5 ends the process by a segmentation fault after it could not write to a disk
        with told(path), h5py.File(content, "w") as file:
            ad.io.write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
        check_space(path, len(content.getbuffer()))
        with replaced(path, size=len(content.getbuffer())) as staging:
            staging.write_bytes(content.getbuffer())


@contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Raise ValueError that names the file, if writing fails within for what is written."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # of whatever is in the AnnData
        msg = f"{path} cannot be written ({_said(error)}): convert or remove what is named, and run again."
        raise ValueError(msg) from error


def _said(error: Exception) -> str:
    """An error with anndata's notes on the key that it came up at."""
    texts = [text for text in (str(error), *getattr(error, "__notes__", ())) if text]
    return "; ".join(text.splitlines()[0][:200] for text in texts) or type(error).__name__


def check_output(path: str) -> None:
    """Raise what :func:`write` would raise, before there is anything to write."""
    where = as_path(path)
    if where.suffix not in (".h5ad", ZARR):
        msg = f"{path} must end in .h5ad or .zarr: choose one of the two."
        raise ValueError(msg)
    if where.suffix == ZARR:
        directory_of(path, is_zarr, A_ZARR)
    else:
        target_of(path)


def is_zarr(path: Path) -> bool:
    """Whether a directory is a zarr store, or a group in one."""
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def in_zarr(path: Path) -> bool:
    """Whether a path is, or would become, a zarr store by its name, or is a group in one."""
    return path.suffix == ZARR or is_zarr(path)


def run_fit(options: argparse.Namespace) -> None:
    """Train on the slides of a file and write the model."""
    from ipar.model.io import check_directory  # loads torch, which other commands need not wait for
    from ipar.training import Recipe

    check_directory(options.model)
    adata = read(options.slides)
    check_space(options.model, 140 * adata.n_obs)  # of the reference
    recipe = Recipe.of(options.quality)
    recipe = replace(recipe, embed=replace(recipe.embed, inputs=options.inputs))
    library_key = options.library_key or ("slide" if "slide" in adata.obs else None)
    model = ipar.tl.fit_ipalite(
        adata,
        library_key,
        config=options.config,
        spatial_key=options.spatial_key,
        n_neighbors=options.n_neighbors,
        recipe=recipe,
        flow=options.flow,
        force=options.force,
        layer=options.layer,
        gene_key=options.gene_key,
        random_state=options.seed,
        device=options.device,
        progress=not options.quiet,
    )
    model.save(options.model)
    verdict = adata.uns["ipar"]["localisability"]
    print(
        f"localisable: {'yes' if verdict['localisable'] else 'NO'} (on held-out slides: "
        f"{verdict['explained']:.0%} of positions explained, "
        f"distance Spearman {verdict['distance_spearman']:.2f}, candidate recall {verdict['recall_ratio']:.1f} x chance)"
    )
    print(f"model: {options.model}")


def run_predict(options: argparse.Namespace) -> None:
    """Predict coordinates for the cells of a file."""
    from ipar._cli._stores import StoredTable, refuse_store
    from ipar._cli._streams import Stream

    table, source, target = None, options.cells, options.output
    if options.table_key is not None:
        table = StoredTable.of(options.cells, options.table_key, options.output, options.points_key)
        source, target = str(table.path), str(table.target)
    else:
        refuse_store(options.cells)
        check_output(options.output)
    model = ipar.load(options.model)
    with closing(Stream(source, target)) as cells:
        added = 1_000 if options.no_graph else 3_000
        check_space(target, added * cells.adata.n_obs)  # which hardly compresses
        ipar.tl.predict_coords(
            cells.adata,
            model,
            reference=options.reference,
            transport=options.transport,
            library_key=options.library_key,
            layer=options.layer,
            gene_key=options.gene_key,
            n_rounds=options.n_rounds,
            sharpen=not options.no_sharpen,
            graph=not options.no_graph,
            random_state=options.seed,
            device=options.device,
            progress=not options.quiet,
        )
        cells.write()
    key = "X_ipar" if options.reference is None else "X_ipar_reference"
    if table is not None:
        table.add_points(cells.adata, key)
    print(f"{cells.adata.n_obs} cells placed: obsm[{key!r}] in {options.output}")


def run_evaluate(options: argparse.Namespace) -> None:
    """Score the predicted coordinates of a file."""
    adata = read(options.cells)
    for key in (options.spatial_key, options.use_rep):
        if key not in adata.obsm:
            msg = f"obsm has no {key!r}, found {sorted(adata.obsm)}. Pass the keys with --spatial-key and --use-rep."
            raise KeyError(msg)
    true, predicted = (raw_coords(adata, key) for key in (options.spatial_key, options.use_rep))
    if options.library_key is None:
        scores = {"all": ipar.metrics.evaluate(true, predicted)}
    elif options.library_key in adata.obs:
        scores = dict(ipar.metrics.evaluate_slides(true, predicted, adata.obs[options.library_key].to_numpy()))
    else:
        msg = f"obs has no column {options.library_key!r}, found {sorted(adata.obs)}. Pass one with --library-key."
        raise KeyError(msg)
    print(json.dumps(_json_scores(scores), indent=1) if options.json else score_table(scores))


def _json_scores(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Replace NaN, which JSON does not have, by None."""
    return {
        column: {name: None if np.isnan(value) else value for name, value in own.items()}
        for column, own in scores.items()
    }


def score_table(columns: dict[str, dict[str, float]], names: list[str] | None = None) -> str:
    """Format scores as a table, one column per slide or method."""
    names = names or list(next(iter(columns.values())))
    width = max(len(name) for name in names)
    cells = [max(len(title), 8) for title in columns]
    head = " " * width + "".join(f"  {title:>{w}}" for title, w in zip(columns, cells, strict=True))
    rows = [
        f"{name:<{width}}"
        + "".join(f"  {scores[name]:>{w}.3f}" for scores, w in zip(columns.values(), cells, strict=True))
        for name in names
    ]
    return "\n".join([head, *rows])
