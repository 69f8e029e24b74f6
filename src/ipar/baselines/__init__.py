"""Simple methods, on arrays, to compare predictions with."""

from __future__ import annotations

from ipar.baselines._distance_embedding import distance_embedding_mds
from ipar.baselines._expression import pca_knn_regression, pca_umap, permuted

__all__ = ["distance_embedding_mds", "pca_knn_regression", "pca_umap", "permuted"]
