"""Fitting the encoder on slides: inputs, principal components, the two networks, leave-one-slide-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from ipar.geometry import gauge_fix
from ipar.model._encoder import EncoderPart, GeometryEncoder, Inputs
from ipar.nn import SharedEncoder
from ipar.training._encoder import EncoderTraining, train_encoder

_PARTS: dict[Inputs, tuple[tuple[Literal["pca", "genes"], tuple[Literal["local", "global"], ...]], ...]] = {
    "pca": (("pca", ("local", "global")),),
    "genes": (("genes", ("local", "global")),),
    "both": (("pca", ("local", "global")), ("genes", ("global",))),
}


@dataclass(frozen=True)
class EncoderRecipe:
    """Shapes and training of the encoder's networks.

    The defaults come from leave-one-slide-out trials on brain sections: principal components need far less
    regularisation than genes, whose first layer has millions of weights for about a thousand spots a slide.

    Attributes
    ----------
    n_pcs
        Principal components, fitted on the training slides.
    n_output
        Width of each network's output, half for each term.
    pca_hidden, pca_dropout
        Of the network fed with principal components.
    genes_hidden, genes_dropout, genes_input_dropout
        Of the network fed with genes.
    pca_training, genes_training
        Their training.
    """

    n_pcs: int = 50
    n_output: int = 128
    pca_hidden: tuple[int, ...] = (256,)
    pca_dropout: float = 0.3
    genes_hidden: tuple[int, ...] = (512, 256)
    genes_dropout: float = 0.3
    genes_input_dropout: float = 0.5
    pca_training: EncoderTraining = EncoderTraining(n_steps=600, batch_size=384)
    genes_training: EncoderTraining = EncoderTraining(n_steps=400, batch_size=384)


@dataclass(frozen=True)
class Slide:
    """A training slide: log-normalised expression ``(n, n_genes)``, coordinates ``(n, 2)`` and its name."""

    expression: sparse.csr_matrix
    coords: NDArray[np.float32]
    name: str


def _dense_centred(slide: Slide) -> NDArray[np.float32]:
    dense = slide.expression.toarray()
    centred: NDArray[np.float32] = dense - dense.mean(axis=0)
    return centred


def principal_axes(slides: Sequence[NDArray[np.float32]], n_pcs: int, random_state: int) -> NDArray[np.float32]:
    """Axes ``(n_genes, n_pcs)`` of per-slide centred expression, scaled so that components have unit variance overall.

    One common factor, not one an axis: whitening would blow up the noise of the last components.
    """
    stacked = np.concatenate(slides)
    n_pcs = min(n_pcs, *(d - 1 for d in stacked.shape))
    _, _, axes = randomized_svd(stacked, n_pcs, random_state=random_state)
    loadings = axes.T
    scale = (stacked @ loadings).std()
    scaled: NDArray[np.float32] = (loadings / max(float(scale), 1e-12)).astype(np.float32)
    return scaled


def fit_encoder(
    slides: Sequence[Slide],
    genes: pd.Index,
    inputs: Sequence[Inputs],
    recipe: EncoderRecipe,
    *,
    random_state: int = 0,
    device: torch.device | None = None,
) -> dict[Inputs, GeometryEncoder]:
    """Train the networks that the asked inputs need, each once, and put the encoders together.

    Parameters
    ----------
    slides
        Training slides.
    genes
        Names of their genes.
    inputs
        Which encoders are wanted.
    recipe
        Shapes and training.
    random_state
        Seed.
    device
        Where to train; the CPU, if None.

    Returns
    -------
    dict
        An encoder for each of ``inputs``.
    """
    dense = [_dense_centred(slide) for slide in slides]
    coords = [gauge_fix(torch.from_numpy(slide.coords)) for slide in slides]
    loadings = principal_axes(dense, recipe.n_pcs, random_state)
    nets: dict[str, SharedEncoder] = {}
    for source in {source for name in inputs for source, _ in _PARTS[name]}:
        features = [x @ loadings if source == "pca" else x for x in dense]
        nets[source] = _train_net(source, features, coords, recipe, random_state, device)
    encoders = {}
    for name in inputs:
        parts = tuple(EncoderPart(source, nets[source], terms) for source, terms in _PARTS[name])
        encoders[name] = GeometryEncoder(genes, loadings, parts, {"inputs": name, "random_state": random_state})
    return encoders


def _train_net(
    source: str,
    features: Sequence[NDArray[np.float32]],
    coords: Sequence[torch.Tensor],
    recipe: EncoderRecipe,
    random_state: int,
    device: torch.device | None,
) -> SharedEncoder:
    n_input = features[0].shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        if source == "pca":
            net = SharedEncoder(n_input, hidden=recipe.pca_hidden, n_output=recipe.n_output, dropout=recipe.pca_dropout)
        else:
            net = SharedEncoder(
                n_input,
                hidden=recipe.genes_hidden,
                n_output=recipe.n_output,
                dropout=recipe.genes_dropout,
                input_dropout=recipe.genes_input_dropout,
            )
    net.to(device)
    training = recipe.pca_training if source == "pca" else recipe.genes_training
    train_encoder(net, [torch.from_numpy(x) for x in features], coords, training, random_state=random_state)
    return net
