"""A tissue of smooth gradients in two or three dimensions, optionally mirror-symmetric."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ipar._public import public
from ipar._seeds import as_seed
from ipar.datasets._sections import Floats, as_categories, slide_column
from ipar.datasets._simulate import assemble


@public
def smooth_tissue(
    n_slides: int = 3,
    n_cells: int = 400,
    n_genes: int = 120,
    *,
    n_dims: int = 2,
    mirrored: bool = False,
    random_state: int | np.random.Generator | None = 0,
) -> ad.AnnData:
    """Simulate an elliptic tissue whose genes are plane waves of the position.

    It is a small tissue that can be localised, in two or three dimensions. If mirrored, the two halves have the same
    expression, like those of a brain, and expression does not tell on which side a cell lies.

    Parameters
    ----------
    n_slides, n_cells, n_genes
        Number of sections (or blocks of tissue), of cells per section, and of genes.
    n_dims
        Number of dimensions, 2 or 3.
    mirrored
        Make expression depend on the distance from the plane of symmetry, not on the side.
    random_state
        Seed of the tissue and the cells.

    Returns
    -------
    AnnData of ``n_slides * n_cells`` cells in random order:

    ``.X``, ``.layers["counts"]``
        log(1 + counts scaled to 10,000), float32 CSR, and Poisson counts.
    ``.obs["slide"]``, ``.obs["side"]``
        "slide1", "slide2", …; "left" or "right" of the plane of symmetry.
    ``.obsm["spatial"]``
        Positions ``(n, n_dims)`` in micrometres. Each slide is rotated and shifted, every second one mirrored.
    ``.uns["source"]``
        Description and parameters of the simulation.

    Examples
    --------
    >>> import ipar
    >>> ipar.datasets.smooth_tissue(n_slides=2, n_cells=50, n_dims=3).obsm["spatial"].shape
    (100, 3)
    """
    if n_dims not in (2, 3):
        msg = f"n_dims must be 2 or 3, found {n_dims}."
        raise ValueError(msg)
    seed = as_seed(random_state)
    rng = np.random.default_rng(seed)
    waves = rng.normal(scale=1.2, size=(n_dims, n_genes))  # about one period across the tissue
    phases, level = rng.uniform(0, 2 * np.pi, n_genes), rng.normal(size=n_genes)
    coords, counts, sides = [], [], []
    for slide in range(n_slides):
        own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(slide,)))
        place = _in_ellipsoid(own, n_cells, n_dims)
        sides.append(place[:, 0] > 0)
        source = np.column_stack([np.abs(place[:, 0]), place[:, 1:]]) if mirrored else place
        rates = np.exp(level + np.sin(source @ waves + phases))
        rates *= own.lognormal(np.log(3000.0), 0.2, size=(n_cells, 1)) / rates.sum(axis=1, keepdims=True)
        counts.append(sp.csr_matrix(own.poisson(rates).astype(np.int32)))
        coords.append(400.0 * place @ _turn(own, n_dims, mirror=slide % 2 == 1) + 1000.0 * (slide + 1))
    order = rng.permutation(n_slides * n_cells)
    raw = sp.vstack(counts, format="csr")[order]
    slides, side = slide_column(n_slides, n_cells), as_categories(np.concatenate(sides).astype(int), ["left", "right"])
    obs = pd.DataFrame({"slide": slides.array[order], "side": side.array[order]})
    adata = assemble(raw, obs, pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]), "cell")
    adata.obsm["spatial"] = np.concatenate(coords)[order]
    adata.uns["source"] = {
        "description": "simulated tissue of smooth gradients, no animal or patient",
        "simulated": True,
        "random_state": seed,
        "n_dims": n_dims,
        "mirrored": mirrored,
    }
    return adata


def _in_ellipsoid(rng: np.random.Generator, n: int, n_dims: int) -> Floats:
    direction = rng.normal(size=(n, n_dims))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = rng.random((n, 1)) ** (1 / n_dims)
    inside: Floats = direction * radius * np.array([1.5, 1.0, 0.8][:n_dims])
    return inside


def _turn(rng: np.random.Generator, n_dims: int, *, mirror: bool) -> Floats:
    turn, _ = np.linalg.qr(rng.normal(size=(n_dims, n_dims)))
    turn[:, 0] *= np.sign(np.linalg.det(turn)) * (-1.0 if mirror else 1.0)
    return np.asarray(turn, dtype=np.float64)
