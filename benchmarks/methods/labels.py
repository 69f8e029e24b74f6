"""What methods are called on the pages."""

from __future__ import annotations

LABELS = {
    "ipar": '**ipar**, `quality="best"`',
    "ipar_no_flow": "ipar without its flow (`flow=False`)",
    "ipar_default": 'ipar, `quality="default"`',
    "ipar_fast": 'ipar, `quality="fast"`',
    "iga": "ipar, IGA: mean of 20 samples, sharpened",
    "distance_embedding": "distance embedding + MDS",
    "common_frame_mlp": "common-frame MLP",
    "set_transformer": "set transformer",
    "ridge": "ridge to one frame",
    "pca_knn": "PCA + kNN regression",
    "pca_umap": "PCA + UMAP, no spatial data",
    "ipar_plain": "ipar, plain components",
    "ipar_no_flow_plain": "ipar without its flow, plain components",
    "iga_plain": "IGA, plain components",
    "distance_embedding_uncentred": "distance embedding + MDS on uncentred slides",
    "common_frame_mlp_uncentred": "common-frame MLP on uncentred slides",
    "set_transformer_uncentred": "set transformer on uncentred slides",
    "ridge_uncentred": "ridge to one frame on uncentred slides",
    "cell_type_centroids": "cell-type centroids",
    "permuted": "permuted coordinates",
    "within_slide_mlp": "within-slide 5-fold MLP (reference)",
}
PEERS = {  # published methods, which benchmarks.peers.run runs
    "celery": "CeLEry (peer)",
    "tangram": "Tangram (peer)",
    "novosparc": "novoSpaRc (peer)",
    "moscot": "moscot (peer)",
    "stem": "STEM (peer)",
}
