"""What the baselines' networks read."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from ipar.baselines._checks import FloatArray

_STD_MIN = 1e-6


def unit_scale(x: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide both by the root mean square of the first: one scale, since relative sizes say which features matter."""
    scale = float(np.sqrt(np.square(x).mean())) or 1.0
    return x / np.float32(scale), query / np.float32(scale)


def principal_components(
    x: FloatArray, query: FloatArray, n_components: int, *, seed: int, power: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Principal components of the first matrix, each divided by a power of its standard deviation, at unit scale.

    Parameters
    ----------
    x, query
        Centred expression, ``(n, n_genes)`` and ``(n_query, n_genes)``.
    n_components
        At most; fewer where there are fewer cells or genes.
    seed
        Of the randomised decomposition.
    power
        0 leaves the components raw, so that the first few are all that is seen; 1 whitens, so that noise counts as
        much as signal; 0.5 stands between and generalised best to left-out training slides.
    """
    pca = PCA(min(n_components, *x.shape), svd_solver="randomized", random_state=seed).fit(x)
    train = pca.transform(x)
    divisor = np.maximum(train.std(axis=0), _STD_MIN) ** power
    return unit_scale(train / divisor, pca.transform(query) / divisor)
