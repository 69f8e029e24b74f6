"""Sections and dissociated cells of the cortex-like tissue."""

from __future__ import annotations

import anndata as ad
import numpy as np

from ipar.datasets._layered_anatomy import TISSUE
from ipar.datasets._simulate import simulate_dissociated, simulate_slides


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
    band lies off-centre below the white matter. Nothing repeats and nothing is mirror-symmetric. Every section has its
    own anatomy, outline, rotation (some are mirrored) and batch effects.

    Parameters
    ----------
    n_slides
        Number of sections. Section *i* is the same however many there are.
    n_cells
        Cells per section, at least 50.
    n_genes
        Number of genes, at least 50. About 30 % are spatial and 25 % mark cell types.
    median_counts
        Molecules of the median cell before dropout.
    batch_strength
        Strength of the batch effects of each slide: 0 for none, 1 for realistic ones.
    random_state
        Seed of the tissue and its genes. It is stored in ``uns["source"]["random_state"]``, also where it was drawn at
        random.

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
        True cell type and layer; white matter is "WM", hippocampus "HPF" and its pyramidal band "CA".
    ``.var["programme"]``
        True programme of each gene: "layer", "tangential", "band", "cell type" or "housekeeping". It is there to check
        results and must not be used by a method.
    ``.obsm["spatial"]``
        Positions (n, 2) in micrometres, each slide in its own frame.
    ``.uns["source"]``
        Description and parameters of the simulation.

    Raises
    ------
    ValueError, TypeError
        If a number is too small, not finite, or not an integer where one is needed.

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
    return simulate_slides(
        TISSUE,
        n_slides,
        n_cells,
        n_genes,
        median_counts=median_counts,
        batch_strength=batch_strength,
        random_state=random_state,
    )


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
        Number of genes of the tissue, at least 50. Use the same number as for `layered_tissue`.
    median_counts
        Molecules of the median cell over all genes of the tissue, before dropout.
    missing_genes
        Share of genes that are missing, in [0, 0.5].
    random_state
        Seed of the tissue. Pass ``st.uns["source"]["random_state"]`` to match spatial data ``st``.

    Returns
    -------
    AnnData as from `layered_tissue`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]``
    holds the true origins (n, 2) in micrometres, in the frame of an undistorted section. It is there to check results
    and must not be used by a method.

    Raises
    ------
    ValueError, TypeError
        If a number is too small, out of its range, not finite, or not an integer where one is needed.

    Examples
    --------
    >>> import ipar
    >>> cells = ipar.datasets.layered_tissue_dissociated(n_cells=100)
    >>> cells.shape, "spatial" in cells.obsm
    ((100, 450), False)
    """
    return simulate_dissociated(
        TISSUE,
        n_cells,
        n_genes,
        median_counts=median_counts,
        missing_genes=missing_genes,
        random_state=random_state,
    )
