"""Input features of the baselines' networks."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from ipar.baselines._checks import FloatArray

_STD_MIN = 1e-6


def unit_scale(x: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide both by the root mean square of the first, a single scale for all features."""
    scale = float(np.sqrt(np.square(x).mean())) or 1.0
    return x / np.float32(scale), query / np.float32(scale)


def principal_components(
    x: FloatArray, query: FloatArray, n_components: int, *, seed: int, power: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Principal components of `x`, each divided by a power of its standard deviation, at unit scale.

    Parameters
    ----------
    x, query
        Centred expression, ``(n, n_genes)`` and ``(n_query, n_genes)``.
    n_components
        Number of components, at most that of cells or genes.
    seed
        Seed of the randomised decomposition.
    power
        Power of the standard deviation: 0 leaves the components as they are, 1 whitens them.
    """
    pca = PCA(min(n_components, *x.shape), svd_solver="randomized", random_state=seed).fit(x)
    train = pca.transform(x)
    divisor = np.maximum(train.std(axis=0), _STD_MIN) ** power
    return unit_scale(train / divisor, pca.transform(query) / divisor)
