"""Layouts of a left-out section, by how the encoder is adapted to it or taught beforehand. No coordinate of it is read."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tasks
from ipar._expression import Expression, get_expression
from ipar.geometry import gauge_fix
from ipar.model import GeometryEncoder
from ipar.nn import SharedEncoder
from ipar.training import EncoderRecipe, train_encoder
from ipar.training.encoder import Slide, _features, fit_encoder
from lever_layouts import Layouts, far_of, overview_of, slides_of
from lever_training import as_genes

_ADVERSARIAL_STEPS, _ADVERSARIAL_BATCH, _ADVERSARIAL_LR = 300, 256, 1e-4
_OTHERS = ("ob", "liver")


def layouts_of_adaptation(slides: tasks.Slides, seed: int, data: Path) -> Layouts:
    """The overview of an encoder adapted to the query, and of one taught on other tissues beforehand."""
    train, query = get_expression(slides.train), get_expression(slides.query)
    parts = slides_of(slides.train, train)
    recipe = EncoderRecipe()

    def fitted(given: list[Slide], trained: dict[str, SharedEncoder] | None = None) -> GeometryEncoder:
        return fit_encoder(given, train.genes, ["both"], recipe, overview=True, trained=trained, random_state=seed)[
            "both"
        ]

    encoder = fitted(parts)
    yield (
        "… its perceptrons adapted to the query against a discriminator (adversarial)",
        overview_of(far_of(adversarial(encoder, parts, query, seed), query)),
    )
    placed = Slide(encoder.match(query.matrix, query.genes)[0], overview_of(far_of(encoder, query)), "placed")
    yield (
        "… trained again, the query where it was placed as one more slide",
        overview_of(far_of(fitted([*parts, placed]), query)),
    )
    others = [as_genes(tasks.load(tasks.TASKS[name], data).train, train.genes) for name in _OTHERS]
    pretrained = fitted(parts, {"genes": pretrained_on(others, parts, recipe, seed)})
    yield (
        "… its network on genes pretrained on other tissues (olfactory bulb, liver)",
        overview_of(far_of(pretrained, query)),
    )


def adversarial(encoder: GeometryEncoder, slides: Sequence[Slide], query: Expression, seed: int) -> GeometryEncoder:
    """The encoder for the query: a discriminator no longer tells its outputs from those of training slides.

    The networks of the training slides stay as they are, copies of them are trained for the query (ADDA: Tzeng et al.,
    CVPR 2017).
    """
    known = [_read(encoder, slide) for slide in slides]
    matrix, _ = encoder.match(query.matrix, query.genes)
    own = _read(encoder, Slide(matrix, np.zeros((matrix.shape[0], 2), dtype=np.float32), "query"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = tuple(
            replace(part, net=adapted(part.net, np.concatenate([x[part.source] for x in known]), own[part.source]))
            for part in encoder.parts
        )
    return replace(encoder, parts=parts)


def adapted(net: SharedEncoder, known: NDArray[np.float32], own: NDArray[np.float32]) -> SharedEncoder:
    """A copy of a network whose outputs on ``own`` look like those of the network on ``known``."""
    target = deepcopy(net).eval()
    judge = nn.Sequential(nn.Linear(net.n_output, 128), nn.GELU(), nn.Dropout(0.3), nn.Linear(128, 1))
    sides = (
        torch.optim.Adam(judge.parameters(), lr=_ADVERSARIAL_LR),
        torch.optim.Adam(target.parameters(), lr=_ADVERSARIAL_LR),
    )
    x, z = torch.from_numpy(known), torch.from_numpy(own)
    for _ in range(_ADVERSARIAL_STEPS):
        some, ours = (part[torch.randint(len(part), (_ADVERSARIAL_BATCH,))] for part in (x, z))
        with torch.no_grad():
            real, made = net(some), target(ours)
        labels = torch.cat([torch.ones(len(real)), torch.zeros(len(made))])
        _step(sides[0], binary_cross_entropy_with_logits(judge(torch.cat([real, made]))[:, 0], labels))
        verdict = judge(target(ours))[:, 0]
        _step(sides[1], binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict)))
    return target


def pretrained_on(
    others: Sequence[ad.AnnData], slides: Sequence[Slide], recipe: EncoderRecipe, seed: int
) -> SharedEncoder:
    """A network on genes that is trained on slides of other tissues first, then on these."""
    elsewhere = [part for other in others for part in slides_of(other, get_expression(other))]
    genes = get_expression(others[0]).genes
    first = fit_encoder(elsewhere, genes, ["genes"], recipe, random_state=seed)["genes"]
    own = fit_encoder(slides, genes, ["genes"], recipe, trained={"genes": first.parts[0].net}, random_state=seed)
    net = deepcopy(first.parts[0].net)
    read = [torch.from_numpy(_read(own["genes"], slide)["genes"]) for slide in slides]
    coords = [gauge_fix(torch.from_numpy(slide.coords)) for slide in slides]
    train_encoder(net, read, coords, recipe.genes_training, random_state=seed)
    return net


def _read(encoder: GeometryEncoder, slide: Slide) -> dict[str, NDArray[np.float32]]:
    """What the networks of an encoder read of a slide."""
    found = _features(slide, encoder.loadings, encoder.averaging, {part.source for part in encoder.parts})
    return {name: x * np.float32(encoder.gene_scale) if name == "genes" else x for name, x in found.items()}


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
