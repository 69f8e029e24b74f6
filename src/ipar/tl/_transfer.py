"""Expression and labels carried between cells and the places of a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from ipar._anndata import MAP, RECORD, Keys, raw_coords
from ipar._docs import shared_docs
from ipar._expression import Expression, get_expression
from ipar._options import Key
from ipar._public import public
from ipar.model import IPALite
from ipar.model.imputation import Imputation, Shared
from ipar.model.matching import unit_sums
from ipar.model.reference import ReferenceSlide
from ipar.tl._map import map_to_reference
from ipar.tl._reference import known_reference

if TYPE_CHECKING:
    from anndata import AnnData


@public
def impute(
    section: AnnData,
    cells: AnnData,
    model: IPALite,
    genes: Sequence[str] | None = None,
    *,
    regress: bool = True,
    reference: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    section_layer: str | None = None,
    spatial_key: str = "spatial",
    map_key: str = MAP,
) -> AnnData:
    """Expression at the places of a section of genes that were measured in dissociated cells only.

    A place takes the mean of the cells that are mapped onto it, by their weights. The mean is then corrected by what the
    measured genes of the place say. How much map and correction count is chosen on genes that both sides have.

    Parameters
    ----------
    section
        The reference slide, as the model was fitted on it.
    cells
        Cells, log-normalised. They are mapped first if ``obsm[map_key]`` is missing.
    model
        The fitted model.
    genes
        Genes of `cells` (default: all that `section` lacks).
    regress
        Correct each mean: where the place differs from its cells in genes that both have, the wanted genes follow by a ridge
        regression among the cells. Without, or with fewer than 30 such genes, places take plain means.
    reference
        Name of the section in the model (default: the only one).
    layer
        Layer of `cells` with log-normalised expression (default: ``X``).
    gene_key
        Column of ``cells.var`` with the names of genes (default: ``var_names``).
    section_layer
        The same of `section`.
    spatial_key
        Key of the section's coordinates in ``obsm``.
    map_key
        Key of the map in ``cells.obsm``, see :func:`map_to_reference`.

    Returns
    -------
    anndata.AnnData
        The places of the section and the genes: expression in ``X``, float32, with ``obs`` and the coordinates of `section`.
        ``uns["ipar"]["imputation"]`` has the shares of map (``"of_map"``) and correction (``"of_regression"``), and
        ``"pearson"``, the median correlation over places for genes that were measured in both and held out in turn.

    Raises
    ------
    KeyError
        If `cells` lacks a gene.
    ValueError
        If `section` is not the reference, or no genes are left to impute.

    References
    ----------
    The correction is that of Abadie & Imbens, Journal of Business & Economic Statistics 29 (2011).
    """
    import anndata as ad

    weights = _weights(section, cells, model, reference, Keys(None, layer, gene_key), spatial_key, map_key)
    expression = _expression(cells, model, layer, gene_key)
    lacking = expression.genes.difference(section.var_names, sort=False)
    wanted = lacking if genes is None else pd.Index(list(dict.fromkeys(genes)))
    missing = wanted[~wanted.isin(expression.genes)]
    if len(missing):
        msg = f"cells have no genes {list(missing[:5])}: name genes of cells.var_names."
        raise KeyError(msg)
    if not len(wanted):
        msg = "No genes to impute: the section has all genes of the cells. Name some as genes."
        raise ValueError(msg)
    shared = _shared(_expression(section, model, section_layer), expression, wanted) if regress else None
    of_places = unit_sums(sparse.csr_matrix(weights.T))
    x, shares = Imputation().of(of_places, expression.matrix[:, expression.genes.get_indexer(wanted)], shared)
    obsm = {spatial_key: np.array(section.obsm[spatial_key])}
    return ad.AnnData(
        x,
        obs=section.obs.copy(),
        var=pd.DataFrame(index=wanted),
        obsm=obsm,
        uns={RECORD: {"imputation": asdict(shares)}},
    )


@public
@shared_docs
def transfer(
    section: AnnData,
    cells: AnnData,
    model: IPALite,
    obs: str,
    *,
    to: str | None = None,
    reference: str | None = None,
    layer: str | None = None,
    gene_key: str | None = None,
    spatial_key: str = "spatial",
    map_key: str = MAP,
    key_added: Key | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Carry labels from cells to the places of a section, or from a section to cells.

    The shares of cell types per spot are its composition.

    Parameters
    ----------
    section, cells, model, reference, layer, gene_key, spatial_key, map_key
        As in :func:`impute`.
    obs
        Column of ``obs`` with labels.
    to
        Which of the two receives them, ``"section"`` or ``"cells"`` (default: the one without the column).
    key_added
        Key of the results (default: ``"ipar_" + obs``).
    %(copy)s

    Returns
    -------
    None, or a changed copy of the object that receives the labels. Writes to `section` or `cells`

    ``.obs[key_added]``
        The label of the largest share, categorical.
    ``.obsm[key_added + "_shares"]``
        DataFrame of the shares, float32, with a column per label; rows sum to 1.

    Raises
    ------
    KeyError
        If no object has the column.
    ValueError
        If labels are missing for some cells, both objects have the column and `to` is not given, or `section` is not the
        reference.
    """
    to = _target(section, cells, obs, to)
    source, target = (cells, section) if to == "section" else (section, cells)
    labels = _labels(source, obs)
    weights = _weights(section, cells, model, reference, Keys(None, layer, gene_key), spatial_key, map_key)
    carried = unit_sums(sparse.csr_matrix(weights.T)) if to == "section" else weights
    member = sparse.csr_matrix(
        (np.ones(len(labels), dtype=np.float32), (np.arange(len(labels)), labels.codes)),
        shape=(len(labels), len(labels.categories)),
    )
    shares = (carried @ member).toarray().astype(np.float32)
    key, target = f"ipar_{obs}" if key_added is None else key_added, target.copy() if copy else target
    names = labels.categories.astype(str)
    target.obsm[f"{key}_shares"] = pd.DataFrame(shares, index=target.obs_names, columns=names)
    target.obs[key] = pd.Categorical.from_codes(shares.argmax(axis=1).tolist(), categories=names)
    return target if copy else None


def _expression(adata: AnnData, model: IPALite, layer: str | None, gene_key: str | None = None) -> Expression:
    """Expression on the model's scale, if the model reads expression."""
    reads = model if model.encoder.use_rep is None else None
    return get_expression(adata, layer=layer, gene_key=gene_key, model=reads)


def _shared(section: Expression, cells: Expression, wanted: pd.Index) -> Shared:
    """The genes that both have, without those that are wanted."""
    genes = section.genes.intersection(cells.genes).difference(wanted, sort=False)
    places, own = (one.matrix[:, one.genes.get_indexer(genes)] for one in (section, cells))
    return Shared(places, own)


def _weights(
    section: AnnData,
    cells: AnnData,
    model: IPALite,
    reference: str | None,
    keys: Keys,
    spatial_key: str,
    map_key: str,
) -> sparse.csr_matrix:
    """The map of the cells onto the section; made where it is missing, without a change of `cells`."""
    slide = known_reference(model, reference)
    _check_section(section, slide, spatial_key)
    if map_key not in cells.obsm:
        mapped = map_to_reference(cells, model, reference=reference, progress=False, copy=True, **asdict(keys))
        assert mapped is not None
        return sparse.csr_matrix(mapped.obsm[MAP])
    weights = sparse.csr_matrix(cells.obsm[map_key])
    if weights.shape[1] != len(slide):
        msg = (
            f"cells.obsm[{map_key!r}] maps onto {weights.shape[1]} places, but reference {slide.name!r} has {len(slide)}: "
            "run ipar.tl.map_to_reference with this model and reference again."
        )
        raise ValueError(msg)
    return weights


def _check_section(section: AnnData, slide: ReferenceSlide, spatial_key: str) -> None:
    coords = raw_coords(section, spatial_key)
    near = 1e-4 * float(slide.coords.std(axis=0).max())
    if coords.shape != slide.coords.shape or not np.allclose(coords, slide.coords, rtol=0, atol=near):
        msg = (
            f"section must be reference {slide.name!r} as the model was fitted on it, {len(slide)} cells in the same order, "
            f"found {len(coords)} cells or other coordinates: pass that slide alone."
        )
        raise ValueError(msg)


def _target(section: AnnData, cells: AnnData, obs: str, to: str | None) -> Literal["section", "cells"]:
    if to not in (None, "section", "cells"):
        msg = f"to must be 'section' or 'cells', found {to!r}: name the object that receives labels, or leave it out."
        raise ValueError(msg)
    sources = [name for name, adata in (("section", section), ("cells", cells)) if obs in adata.obs]
    if to is not None:
        sources = [name for name in sources if name != to]
    if not sources:
        givers = (
            "Neither section nor cells"
            if to is None
            else f"{'cells' if to == 'section' else 'section'}, which would give labels,"
        )
        msg = f"{givers} has obs[{obs!r}]: name a column with labels as obs."
        raise KeyError(msg)
    if len(sources) == 2:
        msg = (
            f"Both section and cells have obs[{obs!r}]: name the one that receives labels, to='section' or to='cells'."
        )
        raise ValueError(msg)
    return "section" if sources[0] == "cells" else "cells"


def _labels(adata: AnnData, obs: str) -> pd.Categorical[Any]:
    labels: pd.Categorical[Any] = pd.Categorical(adata.obs[obs]).remove_unused_categories()
    missing = int((labels.codes < 0).sum())
    if missing:
        msg = f"obs[{obs!r}] must have a label for every cell, found {missing} missing values: fill them, or remove these cells."
        raise ValueError(msg)
    return labels
