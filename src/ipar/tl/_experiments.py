"""Experiments with a fitted model on slides with known coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ipar._anndata import record
from ipar._run import as_seed
from ipar.model import IPALite
from ipar.tl._held_out import N_MINISETS, Draw, read_held_out
from ipar.training import experiments as experiments
from ipar.training import validation as validation

if TYPE_CHECKING:
    from anndata import AnnData


def decompose_gap(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: int = N_MINISETS,
    miniset_size: tuple[int, int] | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Tell where the energy at inference comes from: missing true edges, wrong edges, or the gate.

    The same minisets are laid out on graphs between the true one and the one that inference has. Nothing is trained
    and nothing chosen, so that a held-out slide stays held out; its true coordinates are read for targets and graphs.

    Parameters
    ----------
    adata
        Slides that the model was not trained on, with log-normalised expression and coordinates.
    model
        A fitted model; the one that was fitted on this very AnnData, if None.
    library_key
        Column of ``obs`` that tells slides apart; all cells are one slide, if None.
    spatial_key
        Key of the true coordinates in ``obsm``.
    layer
        Layer with log-normalised expression; ``X``, if None.
    n_minisets
        Random subsets of each slide.
    miniset_size
        Smallest and largest of them; as in the model's training, if None.
    random_state
        Seed of the subsets. The global random state is left as it was.
    device
        ``"auto"`` (CUDA where there is one, else the CPU) or a torch device.
    progress
        Show a bar.

    Returns
    -------
    DataFrame
        ``slide, condition, miniset, e_geo``, also written to ``.uns["ipar"]["gap"]``. Conditions: ``"first
        guess"`` (before any graph is used: what the embedding alone gives); ``"target edges"`` (the true graph); ``"true candidates"`` (candidates that are true neighbours: what missing edges cost);
        ``"wrong candidates"`` (only the others); ``"all candidates"``, these four with gate scores zero; ``"gated
        candidates"`` (what inference has).

    Raises
    ------
    KeyError, ValueError
        If no model is given or stored, genes do not match, or coordinates are missing or not usable.

    See Also
    --------
    ipar.pl.gap : Bars of the result.
    """
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    slides = read_held_out(adata, model, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device)
    made = slides.model.network
    tables = {
        name: experiments.decompose_gap(made.net, made.gate, slides.minisets(name, draw), progress=progress)
        for name in slides.embeddings
    }
    return _written(adata, "gap", tables)


def shuffle_controls(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: int = N_MINISETS,
    miniset_size: tuple[int, int] | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Show that a network reads its embeddings and its graph: spoil them, and its energy must rise.

    A healthy network on a tissue that can be localised gets at least three times worse. Nothing is trained and nothing
    chosen; true coordinates are read for the energies.

    Parameters
    ----------
    adata, model, library_key, spatial_key, layer, n_minisets, miniset_size, device, progress
        As in :func:`ipar.tl.decompose_gap`; two minisets at least.
    random_state
        Seed of subsets and controls. The global random state is left as it was.

    Returns
    -------
    DataFrame
        ``slide, condition, miniset, e_geo, ratio``, also written to ``.uns["ipar"]["shuffle_controls"]``; ``ratio`` is to
        the same miniset intact. Conditions: ``"intact"``; ``"shuffled"`` (embeddings permuted within the miniset);
        ``"other miniset"`` (embeddings of other cells); ``"gaussian"`` (noise with mean and deviation of every feature);
        ``"random graph"`` (candidates drawn at random, as many a cell). Candidates and gate follow from what is given.

    Raises
    ------
    KeyError, ValueError
        As :func:`ipar.tl.decompose_gap`, and for fewer than two minisets.
    """
    seed = as_seed(random_state)
    draw = Draw(n_minisets, miniset_size, seed)
    slides = read_held_out(adata, model, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device)
    made = slides.model.network
    tables = {}
    for name in slides.embeddings:
        table = experiments.shuffle_controls(
            made.net,
            made.gate,
            slides.minisets(name, draw),
            n_neighbors=made.n_neighbors,
            random_state=seed,
            progress=progress,
        )
        intact = table[table["condition"] == "intact"].set_index("miniset")["e_geo"]
        table["ratio"] = table["e_geo"] / table["miniset"].map(intact)
        tables[name] = table
    return _written(adata, "shuffle_controls", tables)


def sweep_beta(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    betas: Sequence[float] = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0),
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: int = N_MINISETS,
    miniset_size: tuple[int, int] | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the energy at other weights β of the gate than the model's.

    True coordinates are read. A weight chosen by them must not be scored on the same slide: give a slide that was left
    out of training for choices. A fit keeps the weight of its training: ``fit_ipalite(config=IPALiteConfig.v1(beta=…))``.

    Parameters
    ----------
    adata
        Validation slides, with log-normalised expression and coordinates.
    betas
        Weights to try.
    model, library_key, spatial_key, layer, n_minisets, miniset_size, random_state, device, progress
        As in :func:`ipar.tl.decompose_gap`.

    Returns
    -------
    DataFrame
        ``slide, beta, e_geo``, mean over minisets, also written to ``.uns["ipar"]["beta_sweep"]``.

    Raises
    ------
    KeyError, ValueError
        As :func:`ipar.tl.decompose_gap`, and for no weights.
    """
    if not len(betas):
        msg = "betas is empty: give weights to try, such as (0, 0.5, 2)."
        raise ValueError(msg)
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    slides = read_held_out(adata, model, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device)
    made = slides.model.network
    tables = {}
    for name in slides.embeddings:
        sets = slides.minisets(name, draw)
        energies = validation.sweep_beta(made.net, made.gate, sets, betas, progress=progress)
        tables[name] = pd.DataFrame({"beta": np.asarray(betas, dtype=np.float64), "e_geo": energies})
    return _written(adata, "beta_sweep", tables)


def _written(adata: AnnData, key: str, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One table with a column for the slide, stored."""
    for name, table in tables.items():
        table.insert(0, "slide", name)
    whole = pd.concat(tables.values(), ignore_index=True)
    record(adata)[key] = whole
    return whole.copy()
