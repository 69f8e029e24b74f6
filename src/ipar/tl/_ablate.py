"""Ablation of the terms of the attention logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ipar._anndata import get_slides, record
from ipar._run import as_seed
from ipar.nn import IPALiteConfig
from ipar.tl._fit import fit_ipalite
from ipar.tl._held_out import N_MINISETS, Draw, read_held_out
from ipar.training import Recipe
from ipar.training.validation import validate

if TYPE_CHECKING:
    from anndata import AnnData

FULL = "none"


def ablate_terms(
    adata: AnnData,
    train: AnnData,
    library_key: str,
    *,
    terms: Sequence[str] | None = None,
    config: IPALiteConfig | str = "d7",
    recipe: Recipe | None = None,
    max_epochs: int | None = None,
    n_test_minisets: int = N_MINISETS,
    random_states: Sequence[int] = (0,),
    spatial_key: str = "spatial",
    layer: str | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Train without one term of the attention logits after the other, and see what held-out slides lose.

    Every network is trained on the training slides alone (their embedding is made once) and makes its choices, epochs
    and β, on one of them; coordinates of ``adata`` are read for the final energies only.

    Parameters
    ----------
    adata
        Held-out slides, with log-normalised expression and coordinates.
    train
        Training slides, as for :func:`ipar.tl.fit_ipalite`; where :func:`ipar.pp.embed` has run, its embedding is used.
    library_key
        Column of ``obs`` that tells slides apart, in ``train`` and, where it has one, in ``adata``.
    terms
        Terms to leave out, one at a time, of ``"qk"``, ``"geometry"``, ``"pair"`` and ``"gate"``; all that the config
        has, if None.
    config
        The full network, by name or as switches; ``"d7"`` has query and key, geometry and gate.
    recipe, max_epochs
        Of every training, see :func:`ipar.tl.fit_ipalite`.
    n_test_minisets
        Random subsets of each held-out slide.
    random_states
        Seeds; one network of each kind a seed. Single seeds mislead: take three or more for a claim.
    spatial_key, layer, device, progress
        As in :func:`ipar.tl.fit_ipalite`.

    Returns
    -------
    DataFrame
        ``without, random_state, slide, e_geo, e_geo_target, delta``, also written to ``.uns["ipar"]["ablation"]``: E_geo
        on gated candidates and on target edges without gate, and how much the first is above that of the full network
        (``without="none"``) with the same seed. ``train`` is left as it is.

    Raises
    ------
    ValueError
        If a term is not one of the config's, a held-out slide has the name of a training slide, or slides are not usable.
    """
    full = IPALiteConfig.named(config) if isinstance(config, str) else config
    configs = {FULL: full} | {term: full.without(term) for term in (full.terms if terms is None else terms)}
    own_key = library_key if library_key in adata.obs else None
    if own_key is not None:
        _check_held_out(adata, train, library_key)
    working = train.copy()
    rows = []
    for seed in random_states:
        draw = Draw(n_test_minisets, None, as_seed(seed))
        for without, one in configs.items():
            model = fit_ipalite(
                working,
                library_key,
                config=one,
                flow=False,  # energies of the network alone are compared
                recipe=recipe,
                max_epochs=max_epochs,
                spatial_key=spatial_key,
                layer=layer,
                random_state=seed,
                device=device,
                progress=progress,
            )
            slides = read_held_out(
                adata, model, library_key=own_key, spatial_key=spatial_key, layer=layer, device=device
            )
            for name in slides.embeddings:
                target, gated = validate(model.network.net, model.network.gate, slides.minisets(name, draw))
                rows.append((without, seed, name, gated, target))
    table = pd.DataFrame(rows, columns=["without", "random_state", "slide", "e_geo", "e_geo_target"])
    whole = table[table["without"] == FULL].set_index(["random_state", "slide"])["e_geo"]
    pairs = pd.MultiIndex.from_frame(table[["random_state", "slide"]])
    table["delta"] = table["e_geo"] - whole.reindex(pairs).to_numpy()
    record(adata)["ablation"] = table
    return table.copy()


def _check_held_out(adata: AnnData, train: AnnData, library_key: str) -> None:
    shared = set(get_slides(adata, library_key).categories) & set(get_slides(train, library_key).categories)
    if shared:
        msg = (
            f"obs[{library_key!r}] has {sorted(map(str, shared))} both in the held-out and in the training slides: a slide "
            "that is scored must not be trained on. Take it out of train."
        )
        raise ValueError(msg)
