"""A network whose embedding distances match tissue distances, flattened by classical MDS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ipar._steps import input_dropout, steps_for
from ipar.baselines._checks import FloatArray, Reference, as_reference, sklearn_seed
from ipar.baselines._features import principal_components, unit_scale
from ipar.nn import SharedEncoder

_N_STEPS = 400  # for 2,500 cells or fewer
_N_OUTPUT = 32
_NEAR = 0.3  # RMS radii; below this distance all pairs weigh alike


@dataclass(frozen=True)
class _Recipe:
    """How one member of the ensemble is trained."""

    n_steps: int
    input_dropout: float
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    hidden: int = 256
    dropout: float = 0.3


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
    r"""Classical MDS of an embedding whose distances were taught to be tissue distances.

    Two multilayer perceptrons, one fed with principal components and one with genes, minimise

    .. math:: \mathrm{mean}_{i \ne j}\; (\lVert h_i - h_j \rVert - d_{ij})^2 / (d_{ij} + 0.3)

    over random subsets of one training slide at a time, with slides scaled to unit RMS radius; the weight keeps far
    pairs from drowning near ones. Half of the inputs are dropped in training, a fifth where they are fewer than 1,000.
    Classical MDS of Euclidean distances is PCA: the first two principal components of both query embeddings side by side
    are the layout. No common frame of the slides is needed.

    Parameters
    ----------
    train_x
        Log-normalised expression of the training slides, dense or sparse, shape (n_train, n_genes).
    train_coords
        Their positions, shape (n_train, 2), each slide in any frame.
    train_slides
        Their slides, shape (n_train,).
    query_x
        Expression of the query slide, same genes, shape (n_query, n_genes).
    n_components
        Principal components that feed the first network, each divided by the root of its standard deviation.
    n_steps
        Optimiser steps of each network; 400 for 2,500 training cells or fewer, up to three times as many for more, if None.
    centre_slides
        Centre genes within each slide, so that sections may differ in level. Otherwise by the mean of all training cells:
        better where slides are measured alike and differ in what they hold.
    random_state
        Seed or generator; torch's global state is left as it was.

    Returns
    -------
    Layout, shape (n_query, 2), float32, centred, in RMS radii of a training slide.

    Raises
    ------
    ValueError
        If shapes or genes do not match, a value is NaN or infinite, or all cells of a slide have one position.

    References
    ----------
    Weighting between Sammon's mapping (IEEE Trans. Comput. C-18, 1969) and raw stress.
    """
    data = as_reference(train_x, train_coords, train_slides, query_x, centre_slides=centre_slides)
    seed = sklearn_seed(random_state)
    n_steps = steps_for(_N_STEPS, len(data.x)) if n_steps is None else n_steps
    components = principal_components(data.x, data.query, n_components, seed=seed)
    genes = unit_scale(data.x, data.query)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        members = [_embed(data, *x, _Recipe(n_steps, input_dropout(x[0].shape[1]))) for x in (components, genes)]
    # side by side, squared distances add: the root of their mean is one distance again
    embedding = np.concatenate(members, axis=1) / np.sqrt(len(members))
    layout: FloatArray = PCA(2, svd_solver="full").fit_transform(embedding).astype(np.float32)
    return layout


def _embed(data: Reference, x: FloatArray, query: FloatArray, recipe: _Recipe) -> FloatArray:
    """Train one network under torch's current random state and embed the query, ``(n_query, 32)``."""
    network = SharedEncoder(
        x.shape[1],
        hidden=(recipe.hidden,),
        n_output=_N_OUTPUT,
        input_dropout=recipe.input_dropout,
        dropout=recipe.dropout,
    )
    _train(network, torch.from_numpy(x), torch.from_numpy(data.coords), data.rows, recipe)
    with torch.no_grad():
        embedding: FloatArray = network(torch.from_numpy(query)).numpy()
    return embedding


def _train(network: nn.Module, x: Tensor, coords: Tensor, slides: list[Any], recipe: _Recipe) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.n_steps)
    network.train()
    for step in range(recipe.n_steps):
        rows = torch.from_numpy(slides[step % len(slides)])
        pick = rows[torch.randperm(len(rows))[: recipe.batch_size]]
        loss = _distance_loss(network(x[pick]), coords[pick])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


def _distance_loss(h: Tensor, position: Tensor) -> Tensor:
    predicted, true = torch.pdist(h), torch.pdist(position)
    return ((predicted - true).square() / (true + _NEAR)).mean()
