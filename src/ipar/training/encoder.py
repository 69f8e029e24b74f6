"""Fitting the encoder on slides: inputs, principal components, the two networks, leave-one-slide-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ipar._options import AtLeastTwo, Checked, Count, Share
from ipar._run import Run
from ipar.geometry import gauge_fix
from ipar.model.encoder import GeometryEncoder, Inputs
from ipar.model.features import Averaging, Reading
from ipar.model.parts import EncoderPart
from ipar.nn import SharedEncoder
from ipar.training.axes import AxisSpace, gene_weights
from ipar.training.encoder_training import CellInputs, EncoderTraining, train_encoder
from ipar.training.resemblance import ResemblanceRecipe
from ipar.training.set_encoder import SetEncoderTraining, fit_set_encoder
from ipar.training.slides import SlideSet

_PARTS: dict[Inputs, tuple[tuple[Literal["pca", "genes"], tuple[Literal["local", "global"], ...]], ...]] = {
    "pca": (("pca", ("local", "global")),),
    "genes": (("genes", ("local", "global")),),
    "both": (("pca", ("local", "global")), ("genes", ("global",))),
}


_Training = TypeVar("_Training", EncoderTraining, SetEncoderTraining)


@dataclass(frozen=True)
class EncoderRecipe(Checked):
    """Shapes and training of the encoder's networks.

    The defaults come from trials on held-out brain sections. Principal components need far less regularisation than
    genes, whose first layer has millions of weights for about a thousand spots per slide.

    Attributes
    ----------
    inputs
        What the encoder reads: ``"pca"``, ``"genes"`` or ``"both"``. By default both, unless one of them is clearly better
        on held-out slides.
    n_folds
        Groups of slides that are held out in turn.
    n_pcs
        Components, fitted on the training slides. Of several numbers, held-out slides choose: few for two sections of a
        thousand spots, which many overfit; many for several of them or for thousands of cells.
    spatial_share
        Share of them that are axes of largest spatial covariance instead of largest variance, see
        :class:`~ipar.training.axes.AxisSpace`.
    pc_power
        Components are divided by this power of their standard deviation: 0 leaves them raw, 1 whitens.
    weigh_genes
        Whether genes count by how well they tell places apart, see :func:`~ipar.training.axes.gene_weights`. By default they
        do where there are `few_genes` or more.
    averaging
        Neighbours in expression that a cell is read together with.
    n_output
        Width of each network's output, half for each term.
    pca_hidden, pca_dropout
        Of the network fed with principal components.
    genes_hidden, genes_dropout
        Of the network fed with genes.
    few_genes
        Panels of fewer genes were chosen because they tell cells apart: their genes all count alike, and their network
        does not see `panel_input_dropout` of them in a step.
    genes_input_dropout, panel_input_dropout
        Share of the genes that the network fed with them does not see in a step, of many genes and of few.
    pca_training, genes_training
        Their training.
    set_encoder_training
        Training of the set encoder, which reads what the network on components reads.
    set_encoder_weights, energy_cost
        Weights of the set encoder that are tried on held-out slides, and the share of E_geo that better ranks of distances
        may cost there.
    lead_over_both
        Score by which one kind of input must be better than both on held-out slides. Encoders taught by fewer slides find
        some more neighbours by components alone, while those of all slides place a new one better by both.
    n_minisets
        Minisets that E_geo is the mean of, in those choices.
    axes_values
        Values, cells times genes, that gene weights and axes are found on, as even over slides as their sizes allow. Of more
        they take far longer and are the same.
    resemblance
        How it is learned what left-out cells look like.
    """

    inputs: Inputs | None = None
    n_folds: AtLeastTwo = 3
    n_pcs: Count | tuple[Count, ...] = (60, 100)
    spatial_share: Share = 0.5
    pc_power: float = 0.25
    weigh_genes: bool | None = None
    averaging: Averaging = Averaging()
    n_output: Count = 128
    pca_hidden: tuple[Count, ...] = (256,)
    pca_dropout: Share = 0.3
    genes_hidden: tuple[Count, ...] = (512, 256)
    genes_dropout: Share = 0.3
    few_genes: Count = 1000
    genes_input_dropout: Share = 0.5
    panel_input_dropout: Share = 0.2
    pca_training: EncoderTraining = EncoderTraining(n_steps=300, batch_size=384, noise=0.5, scale=1.0, lr=2e-3)
    genes_training: EncoderTraining = EncoderTraining(n_steps=400, batch_size=384, lr=2e-3)
    set_encoder_training: SetEncoderTraining = SetEncoderTraining()
    set_encoder_weights: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    energy_cost: float = 0.05
    lead_over_both: float = 0.05
    n_minisets: Count = 20
    axes_values: Count = 200_000_000
    resemblance: ResemblanceRecipe = ResemblanceRecipe()

    @property
    def costs(self) -> dict[str, float]:
        """Stages of a fit by name, in order, with about the seconds that each takes of two sections on two CPU cores."""
        n_steps = self.pca_training.n_steps + self.genes_training.n_steps
        return {"folds": 0.034 * n_steps, "encoder": 0.034 * n_steps + 0.03 * self.set_encoder_training.n_steps}

    def hurried(self, times: float = 4.0) -> EncoderRecipe:
        """The same with so many times fewer steps, at learning rates as many times higher."""

        def fewer(training: _Training) -> _Training:
            return replace(training, n_steps=max(1, round(training.n_steps / times)), lr=times * training.lr)

        return replace(
            self,
            pca_training=fewer(self.pca_training),
            genes_training=fewer(self.genes_training),
            set_encoder_training=fewer(self.set_encoder_training),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """All numbers of components to try."""
        return (self.n_pcs,) if isinstance(self.n_pcs, int) else self.n_pcs

    def input_dropout_for(self, n_genes: int) -> float:
        """Share of so many genes that the network fed with them does not see in a step."""
        return self.panel_input_dropout if n_genes < self.few_genes else self.genes_input_dropout


@dataclass(frozen=True)
class GeneAxes:
    """Weights of the genes of training slides, and axes of weighted genes: found once for any number of components."""

    weights: NDArray[np.float32]  # (n_genes,)
    space: AxisSpace

    @classmethod
    def of(cls, slides: SlideSet, recipe: EncoderRecipe, run: Run) -> GeneAxes:
        """Those of some slides, as many as the recipe tries."""
        slides, weigh = slides.sample(recipe.axes_values // len(slides.genes), run.rng), recipe.weigh_genes
        centred, coords = [slide.expression.toarray() for slide in slides], slides.coords
        for x in centred:
            x -= x.mean(axis=0)
        weights = gene_weights(centred, coords, len(slides.genes) >= recipe.few_genes if weigh is None else weigh)
        for x in centred:
            x *= weights
        share, most = recipe.spatial_share, max(recipe.sizes)
        return cls(weights, AxisSpace.of(centred, coords, most, spatial_share=share, random_state=run.seed))

    def loadings(self, recipe: EncoderRecipe) -> NDArray[np.float32]:
        """The axes of a recipe's first number of components, which hold the weights too, ``(n_genes, n_pcs)``."""
        axes = self.space.loadings(recipe.sizes[0], spatial_share=recipe.spatial_share, power=recipe.pc_power)
        return axes * self.weights[:, None]


def fit_encoder(
    slides: SlideSet,
    inputs: Sequence[Inputs],
    recipe: EncoderRecipe,
    run: Run,
    *,
    set_encoder: bool = False,
    trained: Mapping[str, SharedEncoder] | None = None,
    axes: GeneAxes | None = None,
) -> dict[Inputs, GeometryEncoder]:
    """Train the networks that the asked inputs need, each once, and put the encoders together.

    Of several numbers of components, the first is taken. Networks in ``trained``, by what they read, are taken as they are,
    as are ``axes`` of the slides. Returns an encoder for each of ``inputs``, with a set encoder if asked.
    """
    axes = axes or GeneAxes.of(slides, recipe, run)
    gene_scale, loadings = axes.weights, axes.loadings(recipe)
    sources: set[str] = {source for name in inputs for source, _ in _PARTS[name]}
    read = [Reading.of(slide.expression, slide.labels, loadings, recipe.averaging, gene_scale) for slide in slides]
    coords = [gauge_fix(torch.from_numpy(slide.coords)) for slide in slides]
    nets = dict(trained or {})
    for source in sorted(sources - set(nets)):
        inputs_of = [torch.from_numpy(x.components) if source == "pca" else x.genes for x in read]
        nets[source] = _train_net(source, inputs_of, coords, recipe, run)
    whole = None
    if set_encoder:
        components = [torch.from_numpy(x.components) for x in read]
        whole = fit_set_encoder(components, coords, recipe.set_encoder_training, run)
    encoders = {}
    for name in inputs:
        parts = tuple(EncoderPart(source, nets[source], terms) for source, terms in _PARTS[name])
        record = {"inputs": name, "n_pcs": loadings.shape[1], "random_state": run.seed}
        if name != "pca":
            record["genes_input_dropout"] = recipe.input_dropout_for(len(slides.genes))
        encoders[name] = GeometryEncoder(
            slides.genes, loadings, parts, record, recipe.averaging, gene_scale, set_encoder=whole
        )
    return encoders


def _train_net(
    source: str,
    features: Sequence[CellInputs],
    coords: Sequence[torch.Tensor],
    recipe: EncoderRecipe,
    run: Run,
) -> SharedEncoder:
    n_input, wide = features[0].shape[1], source == "genes"
    with run.seeded():
        net = SharedEncoder(
            n_input,
            hidden=recipe.genes_hidden if wide else recipe.pca_hidden,
            n_output=recipe.n_output,
            dropout=recipe.genes_dropout if wide else recipe.pca_dropout,
            input_dropout=recipe.input_dropout_for(n_input) if wide else 0.0,
        )
    net.to(run.device)
    training = recipe.genes_training if wide else recipe.pca_training
    train_encoder(net, features, coords, training, run)
    return net
