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
    """Simulate liver sections, in which expression tells the zone of a cell and nothing of its place.

    Hexagonal lobules, 550 µm from vein to vein, have a central vein in the middle and portal triads at their corners.
    Expression depends on the zonation d_vein / (d_vein + d_triad), hence repeats from lobule to lobule: the tissue is
    not localisable, and software that shows a map of it shows an artefact. Every section meets the lattice at a place
    and an angle of its own.

    Parameters
    ----------
    n_slides
        Number of sections. Section *i* is the same however many there are.
    n_cells
        Cells per section, at least 50; a section holds about twelve lobules.
    n_genes
        Number of genes, at least 50. About 35 % are zonated, 25 % mark cell types.
    median_counts
        Molecules of the median cell before dropout, which loses 10 to 20 % of them. Depth is log-normal over cells.
    batch_strength
        Strength of the per-gene batch effects of every slide, as in `layered_tissue`.
    random_state
        Seed of the tissue, its genes included. With a generator or None, the seed that was drawn is found in
        ``uns["source"]["random_state"]``.

    Returns
    -------
    AnnData as from `layered_tissue`, with ``obs["cell_type"]`` (hepatocytes, endothelium, Kupffer and stellate cells,
    cholangiocytes and lymphocytes, the last two near the triads), ``obs["zone"]`` ("pericentral", "midlobular",
    "periportal") and ``obs["zonation"]``, 0 at the central vein to 1 at the triad. ``var["programme"]`` is
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
    """Simulate dissociated cells of the liver that `liver_lobules` cuts with the same seed and number of genes.

    The technology differs as in `layered_tissue_dissociated`; fragile hepatocytes are under-represented.

    Parameters
    ----------
    n_cells
        Number of cells, at least 50.
    n_genes
        Number of genes of the tissue, at least 50; give what was given to `liver_lobules`.
    median_counts
        Molecules of the median cell over all genes of the tissue, before dropout.
    missing_genes
        Share of the genes that these cells lack, in [0, 0.5].
    random_state
        Seed of the tissue: pass ``st.uns["source"]["random_state"]`` to match spatial data ``st``.

    Returns
    -------
    AnnData as from `liver_lobules`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]`` holds
    the (n, 2) true origin in micrometres, in the frame of the lattice (a central vein at (0, 0), the next at
    (550, 0)). It is there to check results; no method may read it.

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
