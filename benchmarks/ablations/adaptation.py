"""The global map of a held-out section, by how the encoder is adapted to it or taught beforehand."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.ablations.fits import Layouts, fit, map_of, read
from benchmarks.ablations.training import other_tissues
from benchmarks.tasks.tasks import Slides
from ipar.geometry import gauge_fix
from ipar.model import GeometryEncoder
from ipar.model.features import Reading
from ipar.nn import SharedEncoder
from ipar.training import EncoderRecipe, Run, SlideSet
from ipar.training.encoder import fit_encoder
from ipar.training.encoder_training import train_encoder
from ipar.training.slides import Slide

_N_STEPS, _BATCH, _LR = 300, 256, 1e-4  # of the discriminator and what it judges
RECIPE = EncoderRecipe()


def layouts(slides: Slides, seed: int, data: Path) -> Layouts:
    """The global map of an encoder adapted to the query, and of one taught on other tissues beforehand."""
    known, query = read(slides)
    encoder = fit(known, RECIPE, seed)
    yield (
        "… its perceptrons adapted to the query against a discriminator (adversarial)",
        map_of(adversarial(encoder, known, query, seed), query),
    )
    placed = replace(query, coords=map_of(encoder, query), name="placed")
    more = SlideSet((*known, placed), known.genes)
    yield "… trained again, the query where it was placed as one more slide", map_of(fit(more, RECIPE, seed), query)
    others = [slide for slides in other_tissues(data, known.genes).values() for slide in slides]
    nets = {"genes": pretrained_on(SlideSet(tuple(others), known.genes), known, RECIPE, seed)}
    yield (
        "… its network on genes pretrained on other tissues (olfactory bulb, liver)",
        map_of(fit(known, RECIPE, seed, trained=nets), query),
    )


def adversarial(encoder: GeometryEncoder, slides: SlideSet, query: Slide, seed: int) -> GeometryEncoder:
    """The encoder for the query: a discriminator no longer tells its outputs from those of training slides.

    The networks of the training slides stay as they are, copies of them are trained for the query (ADDA: Tzeng et al.,
    CVPR 2017).
    """
    known, own = [read_by(encoder, slide) for slide in slides], read_by(encoder, query)
    with Run(seed).seeded():
        parts = tuple(
            replace(part, net=adapted(part.net, np.concatenate([x[part.source] for x in known]), own[part.source]))
            for part in encoder.parts
        )
    return replace(encoder, parts=parts)


def adapted(net: SharedEncoder, known: NDArray[np.float32], own: NDArray[np.float32], lr: float = _LR) -> SharedEncoder:
    """A copy of a network whose outputs on ``own`` look like those of the network on ``known``."""
    target = deepcopy(net).eval()
    judge = nn.Sequential(nn.Linear(net.n_output, 128), nn.GELU(), nn.Dropout(0.3), nn.Linear(128, 1))
    of_judge, of_target = (torch.optim.Adam(module.parameters(), lr=lr) for module in (judge, target))
    x, z = torch.from_numpy(known), torch.from_numpy(own)
    for _ in range(_N_STEPS):
        some, ours = (part[torch.randint(len(part), (_BATCH,))] for part in (x, z))
        with torch.no_grad():
            real, made = net(some), target(ours)
        labels = torch.cat([torch.ones(len(real)), torch.zeros(len(made))])
        _step(of_judge, binary_cross_entropy_with_logits(judge(torch.cat([real, made]))[:, 0], labels))
        verdict = judge(target(ours))[:, 0]
        _step(of_target, binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict)))
    return target


def pretrained_on(others: SlideSet, slides: SlideSet, recipe: EncoderRecipe, seed: int) -> SharedEncoder:
    """A network on genes that is trained on slides of other tissues first, then on these."""
    run = Run(seed)
    net = fit_encoder(others, ["genes"], recipe, run)["genes"].parts[0].net
    encoder = fit_encoder(slides, ["genes"], recipe, run, trained={"genes": net})["genes"]
    inputs = [torch.from_numpy(read_by(encoder, slide)["genes"]) for slide in slides]
    coords = [gauge_fix(torch.from_numpy(slide.coords)) for slide in slides]
    train_encoder(net, inputs, coords, recipe.genes_training, run)
    return net


def read_by(encoder: GeometryEncoder, slide: Slide) -> dict[str, NDArray[np.float32]]:
    """What the networks of an encoder read of a slide."""
    read = Reading.of(slide.expression, slide.labels, encoder.loadings, encoder.averaging, encoder.gene_scale)
    return {"pca": read.components, "genes": read.genes[torch.arange(len(read.order))].numpy()}


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
