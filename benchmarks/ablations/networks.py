"""Layouts of a held-out section, by what the network attends to and by its losses; one embedding for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.ablations.fits import SHARPENING, Coords, Layouts, blended, read, slide_pcs_of
from benchmarks.ablations.trials import MEANS, TRIALS, Trial
from benchmarks.tasks.embedded import RECIPE
from benchmarks.tasks.tasks import Slides
from ipar.geometry import gauge_fix
from ipar.model import Blend
from ipar.model.blend import global_map
from ipar.model.consensus import ConsensusPlan, consensus_layout, generalised_procrustes
from ipar.model.sharpening import sharpen_layout
from ipar.nn import EdgeGate, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of_mask
from ipar.training import EncoderRecipe, Folds, NetworkRecipe, Run, fit_embedding
from ipar.training.epochs import Trained, copy_weights
from ipar.training.held_out import Cells, train_held_out
from ipar.training.minisets import Miniset, sample_minisets
from ipar.training.taught import embed_slide

Networks = tuple[IPALiteNet, EdgeGate]


def beside(h: NDArray[np.float32], own: NDArray[np.float32], overview: Tensor) -> Tensor:
    """Embedding, own components and global map in a row, ``(n, d + p + 2)``.

    Own components have unit variance, which makes their rows about as long as those of the embedding.
    """
    parts = [h, own / max(float(own.std()), 1e-9), overview.numpy()]
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def fit_trial(
    trial: Trial,
    wide: Sequence[Tensor],
    coords: Sequence[NDArray[np.float32]],
    width: int,
    folds: Folds,
    recipe: NetworkRecipe,
    run: Run,
) -> Networks:
    """Network and gate, trained as :func:`ipar.training.network.fit_network` trains them, one thing changed."""
    recipe = trial.changes(recipe)
    shape, plan = replace(recipe.config, d_input=width), recipe.plan
    places = [torch.from_numpy(x) for x in coords]

    def draw(cells: Sequence[Cells], n_sets: int, seed: int) -> list[Miniset]:
        own = [wide[i][rows] for i, rows in cells], [places[i][rows] for i, rows in cells]
        options: dict[str, Any] = {"size": plan.size, "n_neighbors": plan.n_neighbors, "random_state": seed}
        return [prepared(trial, one, width, recipe) for one in sample_minisets(*own, n_sets, **options)]

    def train(sets: Sequence[Miniset], held_out: Sequence[Miniset], start: Networks | None) -> tuple[Networks, Trained]:
        with run.seeded():
            net, gate = trial.net(shape), trial.gate(width)
        training = recipe.training
        if start is not None:
            copy_weights(start, (net, gate))
            training = training.going_on(recipe.refit_epochs)
        return (net, gate), trial.trainer(net, gate, training, run).fit(sets, held_out)

    return train_held_out(folds, draw, train, recipe, run).stage


def prepared(trial: Trial, one: Miniset, width: int, recipe: NetworkRecipe) -> Miniset:
    """A miniset with the candidates and the columns of a trial."""
    near = trial.candidates(one.h, width, recipe.plan.n_neighbors).short()
    return replace(one, h=trial.seen(one.h, width, recipe.plan.size[1]), candidates=near)


@torch.no_grad()
def place(trial: Trial, networks: Networks, h: Tensor, width: int, recipe: NetworkRecipe, seed: int) -> Coords:
    """Layout of one slide from many small ones, as :meth:`ipar.model.network.NetworkLayout.apply` makes it, ``(n, 2)``."""
    (net, gate), plan = networks, trial.changes(recipe).plan
    net.eval()

    def lay_out(cells: Tensor) -> Tensor:
        sets, shape = h[cells], (*cells.shape, cells.shape[1])
        near, seen = trial.candidates(sets, width, plan.n_neighbors), trial.seen(sets, width, cells.shape[1])
        graph = graph_of_mask(torch.zeros(shape, dtype=torch.bool).scatter_(-1, near, value=True))
        layouts: Tensor = net(seen, graph, dense_gate(gate, seen, graph)).layouts
        return layouts

    largest = plan.size[1]
    subsets = ConsensusPlan(direct_max=largest, subset_size=5 * largest // 6, n_anchors=5 * largest // 24)
    found: Coords = consensus_layout(len(h), lay_out, subsets, random_state=seed)[-1].numpy()
    return found


def layouts(
    slides: Slides, seed: int, embed: EncoderRecipe | None = None, recipe: NetworkRecipe | None = None
) -> Layouts:
    """The network by itself and finished, of every trial and of means, on the embedding of ``quality="fast"``."""
    recipe, run, (known, query) = recipe or NetworkRecipe(), Run(seed), read(slides)
    folds = Folds.of(known.sizes, run)
    fit = fit_embedding(known, folds, embed or RECIPE, run)
    encoder, width = fit.encoder, fit.cross_fitted[0].shape[1]
    maps = [global_map(features) for features in fit.cross_fitted_global]
    wide = [
        beside(h, slide_pcs_of(encoder, slide), overview)
        for h, slide, overview in zip(fit.cross_fitted, known, maps, strict=True)
    ]
    features, own = embed_slide(encoder, query), slide_pcs_of(encoder, query)
    overview = global_map(features.global_features)
    asked = beside(features.embedding, own, overview)
    alone: dict[str, Coords] = {}
    for trial in TRIALS:
        networks = fit_trial(trial, wide, known.coords, width, folds, recipe, Run(seed + trial.seed))
        alone[trial.name] = place(trial, networks, asked, width, recipe, seed + trial.seed)
    alone |= {name: mean_of([alone[one] for one in names]) for name, names in MEANS.items()}
    for name, layout in alone.items():
        yield f"network alone: {name}", layout
        blend = blended(layout, overview.numpy(), Blend().global_map)
        yield f"finished: {name}", sharpen_layout(blend, features, SHARPENING, own, run)


def mean_of(layouts: Sequence[Coords]) -> Coords:
    """Mean of layouts of the same cells, aligned, ``(n, 2)``."""
    found = torch.from_numpy(np.stack(layouts))[None]
    mean: Coords = gauge_fix(generalised_procrustes(found, found)[0].mean(0)).numpy()
    return mean
