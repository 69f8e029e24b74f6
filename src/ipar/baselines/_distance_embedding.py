"""Classical MDS of an embedding whose distances match tissue distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ipar._descent import Descent
from ipar._public import public
from ipar.baselines.inputs import (
    FloatArray,
    Reference,
    as_reference,
    principal_components,
    sklearn_seed,
    unit_scale,
)
from ipar.geometry.targets import pair_distances
from ipar.nn import SharedEncoder


@dataclass(frozen=True)
class _Recipe:
    """How each of the two networks is trained. Pairs closer than `near`, in RMS radii, have about the same weight."""

    n_steps: int
    input_dropout: float
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    hidden: int = 256
    dropout: float = 0.3
    n_output: int = 32
    near: float = 0.3


@public
def distance_embedding_mds(
    train_x: Any,
    train_coords: ArrayLike,
    train_slides: ArrayLike,
    query_x: Any,
    *,
    n_components: int = 200,
    n_steps: int | None = None,
    centre_slides: bool = True,
    random_state: int | np.random.Generator | None = 0,
) -> FloatArray:
    r"""Classical MDS of an embedding that was taught tissue distances.

    Two multilayer perceptrons, one on principal components and one on genes, minimise

    .. math:: \mathrm{mean}_{i \ne j}\; (\lVert h_i - h_j \rVert - d_{ij})^2 / (d_{ij} + 0.3)

    over random subsets of one training slide at a time, with slides scaled to unit RMS radius. The layout consists of the
    first two principal components of both query embeddings. Slides need no common frame.

    Parameters
    ----------
    train_x, train_coords, train_slides, query_x
        As for `pca_knn_regression`.
    n_components
        Number of principal components that the first network reads.
    n_steps
        Optimiser steps per network. By default 400 up to 2,500 training cells, and up to 1,200 for more.
    centre_slides
        Centre genes within each slide, rather than by the mean over all training cells.
    random_state
        Seed or generator. The global random state of torch is not changed.

    Returns
    -------
    Layout, shape (n_query, 2), float32, centred, in RMS radii of a training slide.

    Notes
    -----
    The weight keeps distant pairs from dominating; it lies between that of Sammon's mapping (IEEE Trans. Comput. C-18,
    1969) and raw stress. Half of the inputs are dropped in training, or a fifth if they are fewer than 1,000. Without
    `centre_slides`, the result is better where slides were measured alike and hold different parts of the tissue.
    """
    data = as_reference(train_x, train_coords, train_slides, query_x, centre_slides=centre_slides)
    seed = sklearn_seed(random_state)
    # few cells are memorised by longer training, many are not yet learned
    n_steps = round(400 * min(max(len(data.x) / 2500, 1.0), 3.0)) if n_steps is None else n_steps
    components = principal_components(data.x, data.query, n_components, seed=seed)
    genes = unit_scale(data.x, data.query)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        members = [
            _embed(data, *x, _Recipe(n_steps, 0.2 if x[0].shape[1] < 1000 else 0.5)) for x in (components, genes)
        ]
    # squared distances of concatenated embeddings add up: the root of their number makes them one distance again
    embedding = np.concatenate(members, axis=1) / np.sqrt(len(members))
    layout: FloatArray = PCA(2, svd_solver="full").fit_transform(embedding).astype(np.float32)
    return layout


def _embed(data: Reference, x: FloatArray, query: FloatArray, recipe: _Recipe) -> FloatArray:
    """Train one network and embed the query, ``(n_query, n_output)``."""
    network = SharedEncoder(
        x.shape[1],
        hidden=(recipe.hidden,),
        n_output=recipe.n_output,
        input_dropout=recipe.input_dropout,
        dropout=recipe.dropout,
    )
    _train(network, torch.from_numpy(x), torch.from_numpy(data.coords), data.rows, recipe)
    with torch.no_grad():
        embedding: FloatArray = network(torch.from_numpy(query)).numpy()
    return embedding


def _train(network: nn.Module, x: Tensor, coords: Tensor, slides: list[Any], recipe: _Recipe) -> None:
    def loss(step: int) -> Tensor:
        rows = torch.from_numpy(slides[step % len(slides)])
        pick = rows[torch.randperm(len(rows))[: recipe.batch_size]]
        return _distance_loss(network(x[pick]), coords[pick], recipe.near)

    network.train()
    Descent(
        network.parameters(), lr=recipe.lr, n_steps=recipe.n_steps, weight_decay=recipe.weight_decay, clip=1.0
    ).minimise(loss)
    network.eval()


def _distance_loss(h: Tensor, position: Tensor, near: float) -> Tensor:
    predicted, true = pair_distances(h), pair_distances(position)
    return ((predicted - true).square() / (true + near)).mean()
