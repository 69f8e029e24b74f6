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
    """Simulate sections of a cortex-like tissue in which expression tells where a cell was.

    Layers follow one another along the depth of an arc, whose thickness changes from end to end; further genes are
    graded along the arc; a hippocampus-like band lies off-centre below the white matter. Nothing repeats and nothing is
    mirror-symmetric, so that the tissue is localisable. Neurons follow the spatial programmes in full, glia and
    vessels in part, and cell states that no position explains outweigh both in a plain principal component analysis.

    Every section is cut at its own level (cortical thickness, layer borders, size of the hippocampus), has its own
    outline, loses a piece at the rim, is warped, rotated, perhaps mirrored, and has per-gene batch effects.

    Parameters
    ----------
    n_slides
        Number of sections. Section *i* is the same however many there are.
    n_cells
        Cells per section, at least 50. The default is small: quick to train on, and layers show.
    n_genes
        Number of genes, at least 50; the default is a targeted panel's size. About 30 % are spatial, 25 % mark
        cell types.
    median_counts
        Molecules of the median cell before dropout, which loses 10 to 20 % of them. Depth is log-normal over cells.
    batch_strength
        Strength of the per-gene batch effects of every slide: 0 for none, 1 for log level ↦ base +
        scale · (log level − base) + shift with shift ~ N(0, 0.25²) and log scale ~ N(0, 0.1²).
    random_state
        Seed of the tissue, its genes included. With a generator or None, the seed that was drawn is found in
        ``uns["source"]["random_state"]``.

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
        What the gene truly follows: "layer", "tangential", "band", "cell type" or "housekeeping". To check results;
        no method may read it.
    ``.obsm["spatial"]``
        (n, 2) micrometres, each slide in a frame of its own.
    ``.uns["source"]``
        That the data are simulated, and the parameters.

    Raises
    ------
    ValueError, TypeError
        If a number is too small, not finite, or not an integer where one is needed.

    References
    ----------
    Dropout: T. S. Andrews and M. Hemberg, M3Drop, Bioinformatics 35 (2019).

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
    """Simulate dissociated cells of the tissue that `layered_tissue` cuts with the same seed and number of genes.

    As droplet sequencing differs from spatial data, so do these cells: other depth and less dropout, per-gene capture
    factors (log-normal, sd 0.6), genes that were not measured, and fragile neurons under-represented.

    Parameters
    ----------
    n_cells
        Number of cells, at least 50.
    n_genes
        Number of genes of the tissue, at least 50; give what was given to `layered_tissue`, since the genes are drawn
        together.
    median_counts
        Molecules of the median cell over all genes of the tissue, before dropout; twice the spatial default.
    missing_genes
        Share of the genes that these cells lack, in [0, 0.5].
    random_state
        Seed of the tissue: pass ``st.uns["source"]["random_state"]`` to match spatial data ``st``.

    Returns
    -------
    AnnData as from `layered_tissue`, without ``obs["slide"]`` and ``obsm["spatial"]``. ``obsm["spatial_origin"]``
    holds the (n, 2) true origin in micrometres, in the tissue's common frame, that of a section neither warped nor
    turned. It is there to check results; no method may read it.

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
