"""Fitting the encoder on slides: inputs, principal components, the two networks, leave-one-slide-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from ipar._steps import input_dropout
from ipar.geometry import gauge_fix
from ipar.graph import averaged_features, neighbor_average
from ipar.model._encoder import Averaging, EncoderPart, GeometryEncoder, Inputs
from ipar.model._features import centre_by_slide, centred_genes, project
from ipar.nn import SharedEncoder
from ipar.training._axes import component_axes
from ipar.training._encoder import EncoderTraining, train_encoder
from ipar.training._fit_overview import OverviewTraining, fit_overview, fit_sketch
from ipar.training._gene_weights import gene_weights

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
        Components, fitted on the training slides; of several numbers, the one that left-out slides like best: few on two
        sections of a thousand spots, which many overfit, many on several of them or on thousands of cells.
    spatial_share
        Share of them that are axes of largest spatial covariance instead of largest variance, see
        :func:`~ipar.training.component_axes`.
    pc_power
        Components are divided by this power of their standard deviation: 0 leaves them raw, 1 whitens.
    weigh_genes
        Whether genes count by how well they tell places apart, see :func:`~ipar.training.gene_weights`; where there are
        1,000 or more, if None.
    averaging
        Neighbours in expression that a cell is read together with.
    n_output
        Width of each network's output, half for each term.
    pca_hidden, pca_dropout
        Of the network fed with principal components.
    genes_hidden, genes_dropout
        Of the network fed with genes.
    genes_input_dropout
        Share of the genes that it does not see in a step; a half, or a fifth of fewer than 1,000 genes, if None.
    pca_training, genes_training
        Their training.
    overview_training
        Training of the set encoders, which read what the network on components reads.
    """

    n_pcs: int | tuple[int, ...] = (60, 100)
    spatial_share: float = 0.5
    pc_power: float = 0.25
    weigh_genes: bool | None = None
    averaging: Averaging = Averaging()
    n_output: int = 128
    pca_hidden: tuple[int, ...] = (256,)
    pca_dropout: float = 0.3
    genes_hidden: tuple[int, ...] = (512, 256)
    genes_dropout: float = 0.3
    genes_input_dropout: float | None = None
    pca_training: EncoderTraining = EncoderTraining(n_steps=600, batch_size=384, noise=0.5, scale=1.0)
    genes_training: EncoderTraining = EncoderTraining(n_steps=800, batch_size=384)
    overview_training: OverviewTraining = OverviewTraining()

    @property
    def sizes(self) -> tuple[int, ...]:
        """All numbers of components to try."""
        return (self.n_pcs,) if isinstance(self.n_pcs, int) else self.n_pcs

    def input_dropout_for(self, n_genes: int) -> float:
        """Share of so many genes that the network fed with them does not see in a step."""
        return input_dropout(n_genes) if self.genes_input_dropout is None else self.genes_input_dropout


@dataclass(frozen=True)
class Slide:
    """A training slide: log-normalised expression ``(n, n_genes)``, coordinates ``(n, 2)`` and its name."""

    expression: sparse.csr_matrix
    coords: NDArray[np.float32]
    name: str


def _read_genes(
    slides: Sequence[Slide], recipe: EncoderRecipe, random_state: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the genes, and the axes of weighted genes, which hold the weights too."""
    centred = [slide.expression.toarray() for slide in slides]
    for x in centred:
        x -= x.mean(axis=0)
    coords = [slide.coords for slide in slides]
    weights = gene_weights(centred, coords, recipe.weigh_genes)
    for x in centred:
        x *= weights
    share, power = recipe.spatial_share, recipe.pc_power
    axes = component_axes(centred, coords, recipe.sizes[0], spatial_share=share, power=power, random_state=random_state)
    return weights, axes * weights[:, None]


def _features(
    slide: Slide, loadings: NDArray[np.float32], averaging: Averaging, sources: set[str]
) -> dict[str, NDArray[np.float32]]:
    """What the networks read of one slide, as :meth:`GeometryEncoder.transform` makes it; genes are not yet scaled."""
    single: pd.Categorical[Any] = pd.Categorical([slide.name] * slide.expression.shape[0])
    means, codes = centre_by_slide(slide.expression, single)
    components = project(slide.expression, means, codes, loadings)
    average = neighbor_average(components, single, averaging.n_neighbors)
    found = {}
    if "pca" in sources:
        found["pca"] = averaged_features(components, average, codes, averaging.n_hops)
    if "genes" in sources:
        found["genes"] = centred_genes(slide.expression, means, codes, slice(None))
    return found


def fit_encoder(
    slides: Sequence[Slide],
    genes: pd.Index,
    inputs: Sequence[Inputs],
    recipe: EncoderRecipe,
    *,
    overview: bool = False,
    sketch: bool = False,
    trained: Mapping[str, SharedEncoder] | None = None,
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
        Shapes and training; of several numbers of components, the first is taken.
    overview, sketch
        Train the set encoders too, that which embeds and that which draws.
    trained
        Networks by what they read, to be taken as they are.
    random_state
        Seed.
    device
        Where to train; the CPU, if None.

    Returns
    -------
    dict
        An encoder for each of ``inputs``.
    """
    gene_scale, loadings = _read_genes(slides, recipe, random_state)
    sources: set[str] = {source for name in inputs for source, _ in _PARTS[name]}
    read = [
        _features(slide, loadings, recipe.averaging, sources | ({"pca"} if overview or sketch else set()))
        for slide in slides
    ]
    for x in read:
        if "genes" in x:
            x["genes"] *= gene_scale
    coords = [gauge_fix(torch.from_numpy(slide.coords)) for slide in slides]
    nets = dict(trained or {})
    for source in sorted(sources - set(nets)):
        nets[source] = _train_net(source, [x[source] for x in read], coords, recipe, random_state, device)
    seen = [torch.from_numpy(x["pca"]) for x in read if "pca" in x]
    options: dict[str, Any] = {"random_state": random_state, "device": device}
    whole = fit_overview(seen, coords, recipe.overview_training, **options) if overview else None
    drawn = fit_sketch(seen, coords, recipe.overview_training, **options) if sketch else None
    encoders = {}
    for name in inputs:
        parts = tuple(EncoderPart(source, nets[source], terms) for source, terms in _PARTS[name])
        record = {"inputs": name, "n_pcs": loadings.shape[1], "random_state": random_state}
        if name != "pca":
            record["genes_input_dropout"] = recipe.input_dropout_for(len(genes))
        encoders[name] = GeometryEncoder(
            genes, loadings, parts, record, recipe.averaging, gene_scale, overview=whole, sketch=drawn
        )
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
                input_dropout=recipe.input_dropout_for(n_input),
            )
    net.to(device)
    training = recipe.pca_training if source == "pca" else recipe.genes_training
    train_encoder(net, [torch.from_numpy(x) for x in features], coords, training, random_state=random_state)
    return net
