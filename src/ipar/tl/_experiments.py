"""Experiments with a fitted model on slides with known coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ipar._anndata import record
from ipar._docs import shared_docs
from ipar._options import AtLeastTwo, Count, Sizes, check
from ipar._public import public
from ipar._run import Device
from ipar._seeds import as_seed
from ipar.model import IPALite
from ipar.tl._held_out import Draw, HeldOut, read_held_out
from ipar.training import experiments as experiments
from ipar.training import validation as validation

if TYPE_CHECKING:
    from anndata import AnnData

    from ipar.training.minisets import Miniset


@public
@shared_docs
def decompose_gap(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: Count = 12,
    miniset_size: Sizes | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Decompose the energy at inference into missing true edges, wrong edges, and the gate.

    The same minisets are laid out on graphs between the true one and the one used at inference. Nothing is trained or
    chosen, so that a held-out slide stays held out.

    Parameters
    ----------
    adata
        Slides that the model was not trained on, with log-normalised expression and coordinates.
    %(model)s
    %(library_key)s
    %(spatial_key)s
    %(layer)s
    %(minisets)s
    %(run)s

    Returns
    -------
    DataFrame
        ``slide, condition, miniset, e_geo``, also written to ``.uns["ipar"]["gap"]``. Conditions:

        - ``"first guess"``: the layout that the embedding alone gives, before any graph is used;
        - ``"target edges"``: the true graph;
        - ``"true candidates"``: candidates that are true neighbours, which shows what missing edges cost;
        - ``"wrong candidates"``: all other candidates;
        - ``"all candidates"``: all of them, with gate scores zero as in the conditions above;
        - ``"gated candidates"``: all of them with the gate, as at inference.

    Raises
    ------
    KeyError, ValueError
        If there is no model, genes do not match, or coordinates are missing or not usable.

    See Also
    --------
    ipar.pl.gap : Bars of the result.
    """
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    slides = read_held_out(
        adata, model, draw, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device
    )
    made = slides.model.network
    return _on_each_slide(
        adata, "gap", slides, lambda sets: experiments.decompose_gap(made.net, made.gate, sets, progress=progress)
    )


@public
def shuffle_controls(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: Count = 12,
    miniset_size: Sizes | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Test that a network uses its embeddings and its graph: without them, its energy must rise.

    On a tissue that can be localised, the energy of a healthy network becomes at least three times as large. Nothing is
    trained or chosen.

    Parameters
    ----------
    adata, model, library_key, spatial_key, layer, n_minisets, miniset_size, random_state, device, progress
        As in :func:`ipar.tl.decompose_gap`, with at least two minisets.

    Returns
    -------
    DataFrame
        ``slide, condition, miniset, e_geo, ratio``, also written to ``.uns["ipar"]["shuffle_controls"]``. The ratio is to
        the energy of the same miniset intact. Candidates and gate follow from the embeddings. Conditions:

        - ``"intact"``;
        - ``"shuffled"``: embeddings permuted within the miniset;
        - ``"other miniset"``: embeddings of other cells;
        - ``"gaussian"``: noise with the mean and standard deviation of every feature;
        - ``"random graph"``: random candidates, as many per cell.

    Raises
    ------
    KeyError, ValueError
        As in :func:`ipar.tl.decompose_gap`, and for fewer than two minisets.
    """
    check("n_minisets", n_minisets, AtLeastTwo)
    seed = as_seed(random_state)
    draw = Draw(n_minisets, miniset_size, seed)
    slides = read_held_out(
        adata, model, draw, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device
    )
    made = slides.model.network

    def measure(sets: list[Miniset]) -> pd.DataFrame:
        table = experiments.shuffle_controls(
            made.net, made.gate, sets, n_neighbors=made.n_neighbors, random_state=seed, progress=progress
        )
        intact = table[table["condition"] == "intact"].set_index("miniset")["e_geo"]
        return table.assign(ratio=table["e_geo"] / table["miniset"].map(intact))

    return _on_each_slide(adata, "shuffle_controls", slides, measure)


@public
def sweep_beta(
    adata: AnnData,
    model: IPALite | None = None,
    *,
    betas: Sequence[float] = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0),
    library_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_minisets: Count = 12,
    miniset_size: Sizes | None = None,
    random_state: int | np.random.Generator | None = 0,
    device: Device = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the energy at other weights β of the gate.

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
        As in :func:`ipar.tl.decompose_gap`, and if there are no weights.

    Notes
    -----
    Do not score a weight on the slide that it was chosen on: choose it on a held-out slide. Even then, it was mostly worse
    than that of the training on a third slide (:doc:`/recipe`). A fit keeps the weight of its training,
    ``fit_ipalite(config=IPALiteConfig.v1(beta=…))``.
    """
    if not len(betas):
        msg = "betas must hold at least one weight, found none: pass weights such as (0, 0.5, 2)."
        raise ValueError(msg)
    draw = Draw(n_minisets, miniset_size, as_seed(random_state))
    slides = read_held_out(
        adata, model, draw, library_key=library_key, spatial_key=spatial_key, layer=layer, device=device
    )
    made = slides.model.network

    def measure(sets: list[Miniset]) -> pd.DataFrame:
        energies = validation.sweep_beta(made.net, made.gate, sets, betas, progress=progress)
        return pd.DataFrame({"beta": np.asarray(betas, dtype=np.float64), "e_geo": energies})

    return _on_each_slide(adata, "beta_sweep", slides, measure)


def _on_each_slide(
    adata: AnnData, key: str, slides: HeldOut, measure: Callable[[list[Miniset]], pd.DataFrame]
) -> pd.DataFrame:
    """One table with a column for the slide, stored."""
    tables = {name: measure(slides.minisets(name)) for name in slides.embeddings}
    for name, table in tables.items():
        table.insert(0, "slide", name)
    whole = pd.concat(tables.values(), ignore_index=True)
    record(adata)[key] = whole
    return whole.copy()
