"""Sections and dissociated cells of the liver."""

from __future__ import annotations

import anndata as ad
import numpy as np

from ipar.datasets._liver_anatomy import TISSUE
from ipar.datasets._simulate import simulate_dissociated, simulate_slides


def liver_lobules(
    n_slides: int = 3,
    n_cells: int = 900,
    n_genes: int = 500,
    *,
    median_counts: float = 3000.0,
    batch_strength: float = 1.0,
    random_state: int | np.random.Generator | None = 0,
) -> ad.AnnData:
    """Simulate liver sections, which cannot be localised.

    Hexagonal lobules, 550 µm from vein to vein, have a central vein in the middle and portal triads at their corners.
    Expression depends on the zonation d_vein / (d_vein + d_triad) and repeats from lobule to lobule. It tells the zone of
    a cell, but not its position.

    Parameters
    ----------
    n_slides
        Number of sections. Section *i* is the same however many there are.
    n_cells
        Cells per section, at least 50. A section has about twelve lobules.
    n_genes
        Number of genes, at least 50. About 35 % are zonated and 25 % mark cell types.
    median_counts
        Molecules of the median cell before dropout.
    batch_strength
        Strength of the batch effects of each slide, as in `layered_tissue`.
    random_state
        Seed of the tissue and its genes. It is stored in ``uns["source"]["random_state"]``, also where it was drawn at
        random.

    Returns
    -------
    AnnData as from `layered_tissue`, with ``obs["cell_type"]``, ``obs["zone"]`` ("pericentral", "midlobular" or
    "periportal") and ``obs["zonation"]``, from 0 at the central vein to 1 at the triad. ``var["programme"]`` is
    "pericentral", "midlobular", "periportal", "cell type" or "housekeeping".

    Raises
    ------
    ValueError, TypeError
        If a number is too small, not finite, or not an integer where one is needed.

    Examples
    --------
    >>> import ipar
    >>> st = ipar.datasets.liver_lobules(n_slides=2, n_cells=100)
    >>> list(st.obs["zone"].cat.categories)
    ['pericentral', 'midlobular', 'periportal']
    """
    return simulate_slides(
        TISSUE,
        n_slides,
        n_cells,
        n_genes,
        median_counts=median_counts,
        batch_strength=batch_strength,
        random_state=random_state,
    )


def liver_lobules_dissociated(
    n_cells: int = 1500,
    n_genes: int = 500,
    *,
    median_counts: float = 6000.0,
    missing_genes: float = 0.1,
    random_state: int | np.random.Generator | None = 0,
) -> ad.AnnData:
    """Simulate dissociated cells of the tissue of `liver_lobules`.

    They differ from the sections as those of `layered_tissue_dissociated` do. Fragile hepatocytes are under-represented.

    Parameters
    ----------
    n_cells
        Number of cells, at least 50.
    n_genes
        Number of genes of the tissue, at least 50. Use the same number as for `liver_lobules`.
    median_counts
        Molecules of the median cell over all genes of the tissue, before dropout.
    missing_genes
        Share of genes that are missing, in [0, 0.5].
    random_state
        Seed of the tissue. Pass ``st.uns["source"]["random_state"]`` to match spatial data ``st``.

    Returns
    -------
    AnnData as from `liver_lobules`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]`` holds
    the true origins (n, 2) in micrometres, in the frame of the lattice (a central vein at (0, 0), the next at
    (550, 0)). It is there to check results and must not be used by a method.

    Raises
    ------
    ValueError, TypeError
        If a number is too small, out of its range, not finite, or not an integer where one is needed.

    Examples
    --------
    >>> import ipar
    >>> cells = ipar.datasets.liver_lobules_dissociated(n_cells=100)
    >>> "zonation" in cells.obs, "spatial" in cells.obsm
    (True, False)
    """
    return simulate_dissociated(
        TISSUE,
        n_cells,
        n_genes,
        median_counts=median_counts,
        missing_genes=missing_genes,
        random_state=random_state,
    )
