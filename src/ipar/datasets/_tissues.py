"""Sections and dissociated cells of a cortex-like tissue and of the liver."""

from __future__ import annotations

import anndata as ad
import numpy as np

from ipar._public import public
from ipar.datasets import _layered_anatomy, _liver_anatomy
from ipar.datasets._simulate import simulate_dissociated, simulate_slides


@public
def layered_tissue(
    n_slides: int = 3,
    n_cells: int = 900,
    n_genes: int = 500,
    *,
    median_counts: float = 3000.0,
    batch_strength: float = 1.0,
    random_state: int | np.random.Generator | None = 0,
) -> ad.AnnData:
    """Simulate sections of a cortex-like tissue that can be localised.

    Layers follow one another along the depth of an arc, and further genes are graded along the arc. A hippocampus-like
    band lies off-centre below the white matter. Nothing repeats and nothing is mirror-symmetric. Each section has its own
    anatomy, outline, rotation (some are mirrored) and batch effects.

    Parameters
    ----------
    n_slides
        Number of sections. Section *i* is the same however many there are.
    n_cells
        Cells per section, at least 50.
    n_genes
        Number of genes, at least 50. About 30 % are spatial and 25 % mark cell types.
    median_counts
        Molecules of the median cell before dropout, at least 100.
    batch_strength
        Strength of the batch effects of each slide: 0 for none, 1 for realistic ones.
    random_state
        Seed of the tissue and its genes. It is stored in ``uns["source"]["random_state"]``, also if it was drawn at random.

    Returns
    -------
    AnnData of ``n_slides * n_cells`` cells in random order:

    ``.X``
        log(1 + counts scaled to 10,000), float32 CSR.
    ``.layers["counts"]``
        Counts, int32 CSR: negative binomial with Michaelis–Menten dropout and ambient molecules.
    ``.obs["slide"]``
        "slide1", "slide2", …
    ``.obs["cell_type"]``, ``.obs["layer"]``
        True cell type and layer. White matter is "WM", hippocampus "HPF" and its pyramidal band "CA".
    ``.var["programme"]``
        True programme of each gene: "layer", "tangential", "band", "cell type" or "housekeeping". It is there to check
        results and must not be used by a method.
    ``.obsm["spatial"]``
        Positions (n, 2) in micrometres, each slide in its own frame.
    ``.uns["source"]``
        Description and parameters of the simulation.

    Notes
    -----
    Neurons follow the spatial programmes in full, glia and vessels in part. Cell states that do not depend on position
    dominate a plain principal component analysis. Depth is log-normal over cells, and dropout (Andrews and Hemberg, M3Drop,
    Bioinformatics 35, 2019) loses 10 to 20 % of molecules. A batch effect of strength 1 changes log levels to base +
    scale · (log level − base) + shift, with shift ~ N(0, 0.25²) and log scale ~ N(0, 0.1²).

    Examples
    --------
    >>> import ipar
    >>> st = ipar.datasets.layered_tissue(n_slides=2, n_cells=100)
    >>> st.n_obs, list(st.obs["slide"].cat.categories)
    (200, ['slide1', 'slide2'])
    """
    tissue = _layered_anatomy.TISSUE
    return simulate_slides(tissue, n_slides, n_cells, n_genes, median_counts, batch_strength, random_state)


@public
def layered_tissue_dissociated(
    n_cells: int = 1500,
    n_genes: int = 500,
    *,
    median_counts: float = 6000.0,
    missing_genes: float = 0.1,
    random_state: int | np.random.Generator | None = 0,
) -> ad.AnnData:
    """Simulate dissociated cells of the tissue of `layered_tissue`.

    They differ from the sections as droplet sequencing does: in depth, dropout, capture rates and genes. Fragile neurons
    are under-represented.

    Parameters
    ----------
    n_cells
        Number of cells, at least 50.
    n_genes
        Number of genes of the tissue, at least 50. Use the same number as for the sections.
    median_counts
        Molecules of the median cell over all genes of the tissue, before dropout, at least 100.
    missing_genes
        Share of genes that are missing, in [0, 0.5].
    random_state
        Seed of the tissue. Pass ``st.uns["source"]["random_state"]`` to match spatial data ``st``.

    Returns
    -------
    AnnData as from `layered_tissue`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]``
    holds the true origins (n, 2) in micrometres, in the frame of an undistorted section. It is there to check results
    and must not be used by a method.

    Examples
    --------
    >>> import ipar
    >>> cells = ipar.datasets.layered_tissue_dissociated(n_cells=100)
    >>> cells.shape, "spatial" in cells.obsm
    ((100, 450), False)
    """
    tissue = _layered_anatomy.TISSUE
    return simulate_dissociated(tissue, n_cells, n_genes, median_counts, missing_genes, random_state)


@public
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
    median_counts, batch_strength, random_state
        As for `layered_tissue`.

    Returns
    -------
    AnnData as from `layered_tissue`, with ``obs["cell_type"]``, ``obs["zone"]`` ("pericentral", "midlobular" or
    "periportal") and ``obs["zonation"]``, from 0 at the central vein to 1 at the triad. ``var["programme"]`` is
    "pericentral", "midlobular", "periportal", "cell type" or "housekeeping".

    Examples
    --------
    >>> import ipar
    >>> st = ipar.datasets.liver_lobules(n_slides=2, n_cells=100)
    >>> list(st.obs["zone"].cat.categories)
    ['pericentral', 'midlobular', 'periportal']
    """
    tissue = _liver_anatomy.TISSUE
    return simulate_slides(tissue, n_slides, n_cells, n_genes, median_counts, batch_strength, random_state)


@public
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
    n_cells, n_genes, median_counts, missing_genes, random_state
        As for `layered_tissue_dissociated`.

    Returns
    -------
    AnnData as from `liver_lobules`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]`` holds
    the true origins (n, 2) in micrometres, in the frame of the lattice (a central vein at (0, 0), the next at
    (550, 0)). It is there to check results and must not be used by a method.

    Examples
    --------
    >>> import ipar
    >>> cells = ipar.datasets.liver_lobules_dissociated(n_cells=100)
    >>> "zonation" in cells.obs, "spatial" in cells.obsm
    (True, False)
    """
    tissue = _liver_anatomy.TISSUE
    return simulate_dissociated(tissue, n_cells, n_genes, median_counts, missing_genes, random_state)
