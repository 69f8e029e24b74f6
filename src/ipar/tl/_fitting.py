"""What fits start from, the embedding, candidates and a recipe, and what their record holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._anndata import CANDIDATES, EMBED, EMBED_RECORD, OVERVIEW_SUFFIX, RECORD, check_distinct, get_slides
from ipar._expression import get_expression
from ipar.model._encoder import GeometryEncoder
from ipar.pp import candidates, embed
from ipar.training._fit_finish import pick_cells

if TYPE_CHECKING:
    from anndata import AnnData


class _HasEpochs(Protocol):
    @property
    def max_epochs(self) -> int: ...


Recipe = TypeVar("Recipe", bound=_HasEpochs)


def is_embedded(adata: AnnData, library_key: str) -> bool:
    """Whether the stored encoder made the embedding, from the coordinates of these slides and no others."""
    found = adata.uns.get(EMBED_RECORD, {})
    if EMBED not in adata.obsm or found.get("library_key") != library_key or found.get("use_rep") != EMBED:
        return False
    return set(found.get("slides", ())) == set(get_slides(adata, library_key).categories.astype(str))


def embedding_of(
    adata: AnnData, library_key: str, coords: NDArray[np.float32], slides: pd.Categorical, **settings: Any
) -> NDArray[np.float32]:
    """The embedding, from :func:`ipar.pp.embed` with ``settings`` where it is missing."""
    if is_embedded(adata, library_key):
        check_distinct(coords, slides)
    else:
        embed(adata, library_key, **settings)
        adata.uns.pop(CANDIDATES, None)  # they are of another embedding
    return np.asarray(adata.obsm[EMBED], dtype=np.float32)


def prepare_candidates(adata: AnnData, library_key: str, n_neighbors: int | None, random_state: int) -> None:
    """Find candidates where they are missing or others are asked for."""
    known = adata.uns.get(CANDIDATES, {}).get("params", {})
    fitting = known.get("metric") == "cosine" and known.get("use_rep") == EMBED
    if not known or (n_neighbors is not None and not (fitting and n_neighbors == known["n_neighbors"])):
        candidates(adata, n_neighbors or 100, library_key=library_key, random_state=random_state)
    elif not fitting:
        msg = (
            f"The network finds candidates by cosine distance in obsm[{EMBED!r}], but uns[{CANDIDATES!r}] was made with "
            f"metric {known['metric']!r} on {known['use_rep']!r}: run ipar.pp.candidates(adata) again, or give n_neighbors."
        )
        raise ValueError(msg)


def overview_of(adata: AnnData, encoder: GeometryEncoder) -> NDArray[np.float32]:
    """What tells distances across every slide, cross-fitted, ``(n, d)``; the embedding's part, where no more was kept."""
    kept = adata.obsm.get(EMBED + OVERVIEW_SUFFIX)
    if kept is None:
        kept = np.asarray(adata.obsm[EMBED])[:, encoder.global_columns]
    return np.asarray(kept, dtype=np.float32)


def own_components(
    adata: AnnData, encoder: GeometryEncoder, cells: NDArray[np.int64], layer: str | None
) -> NDArray[np.float32]:
    """Principal components that one slide has by itself, ``(len(cells), 100)``, from the layer that was embedded."""
    expression = get_expression(adata, layer=layer or adata.uns.get(EMBED_RECORD, {}).get("layer"))
    one: pd.Categorical[Any] = pd.Categorical(np.zeros(len(cells), dtype=np.int8))
    return encoder.own_components(expression.matrix[cells], expression.genes, one)


class Seen(NamedTuple):
    """Some cells of every training slide, cross-fitted: what choices after the training are made on.

    Attributes
    ----------
    h, far, coords
        Embedding, what tells distances across the slide, and true coordinates, a slide each.
    left
        The slide that the network was not trained on.
    components
        Principal components that this slide has by itself.
    """

    h: list[NDArray[np.float32]]
    far: list[NDArray[np.float32]]
    coords: list[NDArray[np.float32]]
    left: int
    components: NDArray[np.float32]


def seen_slides(
    adata: AnnData,
    encoder: GeometryEncoder,
    embedding: NDArray[np.float32],
    coords: NDArray[np.float32],
    slides: pd.Categorical,
    left: int,
    *,
    layer: str | None,
    random_state: int,
) -> Seen:
    """At most 1,500 cells of every training slide, of which ``left`` is the one that the network was not trained on."""
    rows = [np.flatnonzero(slides == name) for name in slides.categories]
    picks = [pick_cells(len(cells), random_state) for cells in rows]
    own = own_components(adata, encoder, rows[left], layer)[picks[left]]
    kept = embedding, overview_of(adata, encoder), coords
    h, far, true = ([part[cells[pick]] for cells, pick in zip(rows, picks, strict=True)] for part in kept)
    return Seen(h, far, true, left, own)


def with_epochs(training: Recipe, max_epochs: int | None) -> Recipe:
    """A recipe with another number of epochs.

    Raises
    ------
    ValueError
        If there are none.
    """
    if max_epochs is None:
        return training
    if max_epochs < 1:
        msg = f"max_epochs must be at least 1, found {max_epochs}."
        raise ValueError(msg)
    return replace(training, max_epochs=max_epochs)  # type: ignore[type-var]  # every recipe is a dataclass


def verdict(adata: AnnData) -> dict[str, Any]:
    """Whether the tissue can be localised, as the model's record keeps it."""
    found = adata.uns.get(RECORD, {}).get("localisability", {})
    return plain({name: value for name, value in found.items() if name != "folds"})


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numpy scalars (as a file gives them back) as Python's own."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
