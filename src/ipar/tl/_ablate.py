"""Ablation of the terms of the attention logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ipar._anndata import get_slides, record
from ipar._docs import shared_docs
from ipar._options import Count
from ipar._public import public
from ipar._run import Device
from ipar._seeds import as_seed
from ipar.nn import IPALiteConfig
from ipar.tl._fit import fit_ipalite
from ipar.tl._held_out import Draw, read_held_out
from ipar.training import Recipe
from ipar.training.validation import validate

if TYPE_CHECKING:
    from anndata import AnnData

FULL = "none"


@public
@shared_docs
def ablate_terms(
    adata: AnnData,
    train: AnnData,
    library_key: str,
    *,
    terms: Sequence[str] | None = None,
    config: IPALiteConfig | str = "d7",
    recipe: Recipe | None = None,
    max_epochs: Count | None = None,
    n_test_minisets: Count = 12,
    random_states: Sequence[int] = (0,),
    spatial_key: str = "spatial",
    layer: str | None = None,
    device: Device = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Train networks without one term of the attention logits each, and measure the loss on held-out slides.

    Networks are trained on `train` alone, which is not changed. Coordinates of `adata` are only read for the final
    energies.

    Parameters
    ----------
    adata
        Held-out slides, with log-normalised expression and coordinates.
    train
        Training slides, as for :func:`ipar.tl.fit_ipalite`. An embedding from :func:`ipar.pp.embed` is used if present.
    library_key
        Column of ``obs`` with the slide of each cell, in `train` and, if present, in `adata`.
    terms
        Terms to leave out, one at a time: of ``"qk"``, ``"geometry"``, ``"pair"``, ``"gate"`` (default: all that the config
        has).
    config
        The full network, by name or as a config. ``"d7"`` has ``"qk"``, ``"geometry"`` and ``"gate"``.
    recipe, max_epochs
        Settings of every fit, see :func:`ipar.tl.fit_ipalite`.
    n_test_minisets
        Random subsets per held-out slide.
    random_states
        Seeds, with one network of each kind per seed. Single seeds mislead: use three or more for a claim.
    %(spatial_key)s
    %(layer)s
    %(device)s
    %(progress)s

    Returns
    -------
    DataFrame
        ``without, random_state, slide, e_geo, e_geo_target, delta``, also written to ``.uns["ipar"]["ablation"]``: E_geo on
        gated candidates, E_geo on target edges without gate, and the rise of the former above the full network
        (``without="none"``) with the same seed.

    Raises
    ------
    ValueError
        If the config has no such term, a held-out slide has the name of a training slide, or slides are not usable.
    """
    full = IPALiteConfig.named(config) if isinstance(config, str) else config
    configs = {FULL: full} | {term: full.without(term) for term in (full.terms if terms is None else terms)}
    own_key = library_key if library_key in adata.obs else None
    if own_key is not None:
        _check_held_out(adata, train, library_key)
    where: dict[str, Any] = {"spatial_key": spatial_key, "layer": layer, "device": device}
    fit: dict[str, Any] = {"recipe": recipe, "max_epochs": max_epochs, "progress": progress, **where}
    working, rows = train.copy(), []  # the copy keeps the embedding
    for seed in random_states:
        draw = Draw(n_test_minisets, None, as_seed(seed))
        for without, one in configs.items():
            # energies of the network alone are compared
            model = fit_ipalite(working, library_key, config=one, flow=False, random_state=seed, **fit)
            slides = read_held_out(adata, model, draw, library_key=own_key, **where)
            for name in slides.embeddings:
                target, gated = validate(model.network.net, model.network.gate, slides.minisets(name))
                rows.append((without, seed, name, gated, target))
    table = _with_delta(pd.DataFrame(rows, columns=["without", "random_state", "slide", "e_geo", "e_geo_target"]))
    record(adata)["ablation"] = table
    return table.copy()


def _with_delta(table: pd.DataFrame) -> pd.DataFrame:
    """How much the energy is above that of the full network with the same seed."""
    whole = table[table["without"] == FULL].set_index(["random_state", "slide"])["e_geo"]
    pairs = pd.MultiIndex.from_frame(table[["random_state", "slide"]])
    return table.assign(delta=table["e_geo"] - whole.reindex(pairs).to_numpy())


def _check_held_out(adata: AnnData, train: AnnData, library_key: str) -> None:
    shared = set(get_slides(adata, library_key).categories) & set(get_slides(train, library_key).categories)
    if shared:
        msg = (
            f"Held-out slides must not be trained on, found {sorted(map(str, shared))} in obs[{library_key!r}] of both adata "
            "and train: remove these slides from train."
        )
        raise ValueError(msg)
