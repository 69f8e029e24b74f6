"""Layouts of a held-out section by flows that start from noise, from the global map, or from the network's layout.

Layouts that training slides start from are cross-fitted, as their embeddings are: by networks that never saw the slide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.ablations.fits import SHARPENING, Coords, Layouts, read, slide_pcs_of
from benchmarks.ablations.gates import NarrowGate
from benchmarks.ablations.starts import MAP_SCALE
from benchmarks.tasks.embedded import RECIPE
from benchmarks.tasks.tasks import Slides
from ipar.geometry import OffsetGaussianRigid, gauge_fix
from ipar.graph.candidates import cosine_candidates
from ipar.model import Blend
from ipar.model.blend import global_map
from ipar.model.flow import Flow
from ipar.model.network import NetworkLayout
from ipar.model.sharpening import sharpen_layout
from ipar.nn import EdgeGate, IGAConfig, IGANet, IPALiteNet
from ipar.nn.gate import dense_gate
from ipar.nn.iga import IGACondition, centre
from ipar.nn.pose_flow import follow_flow, noise_poses
from ipar.pp import cell_ellipses
from ipar.training import EncoderRecipe, FlowRecipe, Folds, NetworkRecipe, Run, fit_embedding
from ipar.training.epochs import Trained, add_up, copy_weights
from ipar.training.flow import fit_flow
from ipar.training.flow_losses import FlowWeights
from ipar.training.flow_training import POSE_TERMS, FlowTrainer, PoseReady, flow_terms
from ipar.training.gate import Part, Ranks, augment
from ipar.training.held_out import Cells, StageFit, train_held_out
from ipar.training.minisets import sample_minisets
from ipar.training.network import IPALiteTrainer, fit_network
from ipar.training.pose_sets import PoseBatch, PoseSet, collate_poses, ellipse_units, sample_pose_sets
from ipar.training.taught import embed_slide

_SPREAD = 0.5  # of the noise about the layout that a flow starts from, in units of the noise it usually starts from
N_SAMPLES, N_STEPS = 10, 25


def about(noise: OffsetGaussianRigid, places: Tensor, mask: Tensor | None = None) -> OffsetGaussianRigid:
    """Poses about a layout ``(B, n, 2)``, where there were poses of pure noise."""
    return replace(noise, translation=centre(gauge_fix(places, mask) + _SPREAD * noise.translation, mask))


class StartingNet(IGANet):
    """The denoising network, which does not see the layout beside the embedding."""

    def condition(self, h: Tensor, *graph: Any, **options: Any) -> IGACondition:
        """Prepare inputs of sets ``(B, n, d + 2)``."""
        return super().condition(h[..., : self.config.d_input].contiguous(), *graph, **options)


class StartingTrainer(FlowTrainer):
    """Trains it from layouts, the last two columns of what it reads."""

    def prepare(self, sets: Sequence[PoseSet], part: Part) -> PoseReady:
        """A padded, augmented batch, with one time and one noise per set."""
        batch = collate_poses(sets)
        augmented = augment(batch.minisets, self.config)
        h = torch.cat([augmented.h[..., :-2], batch.minisets.h[..., -2:]], dim=-1)
        batch = replace(batch, minisets=replace(augmented, h=h))
        return self._ready(batch, torch.rand(len(sets), generator=self.generator), self.generator, part)

    def _ready(self, batch: PoseBatch, time: Tensor, generator: torch.Generator, part: Part) -> PoseReady:
        mask = batch.minisets.mask
        noise = noise_poses((mask.shape[0], mask.shape[1]), self.net.config, generator, mask)
        start = about(noise, batch.minisets.h[..., -2:] / MAP_SCALE, mask)
        return PoseReady.of_poses(batch, start, time, part, self.device)

    @torch.no_grad()
    def validate(self, sets: Sequence[PoseSet]) -> dict[str, float]:
        """The sum of the losses of poses, at several times, with the same noise at every call."""
        net, times, found = self.average.net.eval(), self.config.validation_times, dict[str, float]()
        for one in sets:
            batch, generator = collate_poses([one] * len(times)), torch.Generator().manual_seed(0)
            ready = self._ready(batch, torch.tensor(times), generator, Ranks().part(len(times)))
            scores = dense_gate(self.gate, ready.batch.h, ready.graph)
            terms, _ = flow_terms(net, ready, scores, 0.0, FlowWeights())
            add_up(found, {"val_pose": sum(terms[name].item() for name in POSE_TERMS)}, len(sets))
        return found


@dataclass(frozen=True)
class StartingFlow(Flow):
    """A flow that starts from a layout ``(n, 2)`` of the cells that it is asked for."""

    layout: Tensor | None = None

    @torch.no_grad()
    def _draw(
        self,
        condition: IGACondition,
        shape: tuple[int, int],
        n_steps: int,
        generator: torch.Generator,
        callback: Callable[[], object],
    ) -> OffsetGaussianRigid:
        assert self.layout is not None
        start = about(noise_poses(shape, self.net.config, generator), self.layout.expand(shape[0], -1, -1))
        return follow_flow(self.net, condition, start, n_steps, callback=callback)


def beside(h: NDArray[np.float32], layout: Coords) -> NDArray[np.float32]:
    """Embedding and layout in a row, ``(n, d + 2)``, the layout so large that no noise moves it."""
    return np.concatenate([h, MAP_SCALE * layout], axis=1).astype(np.float32)


def fit_starting_flow(
    wide: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    ellipses: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: FlowRecipe,
    run: Run,
) -> StageFit[StartingFlow]:
    """A flow from layouts, trained as :func:`ipar.training.flow.fit_flow` trains one from noise."""
    plan, width = recipe.plan, wide[0].shape[1] - 2
    h, x, shapes = ([torch.from_numpy(part) for part in parts] for parts in (wide, coords, ellipses))

    def prepared(one: PoseSet) -> PoseSet:
        near = cosine_candidates(one.miniset.h[:, :width], plan.n_neighbors).short()
        return replace(one, miniset=replace(one.miniset, candidates=near))

    def draw(cells: Sequence[Cells], n_sets: int, seed: int) -> list[PoseSet]:
        own = [[part[i][rows] for i, rows in cells] for part in (h, x, shapes)]
        found = sample_pose_sets(
            own[0], own[1], own[2], n_sets, size=plan.size, n_neighbors=plan.n_neighbors, random_state=seed
        )
        return list(map(prepared, found))

    units = ellipse_units(draw(folds.rest(), plan.n_minisets, run.seed))
    shape: IGAConfig = replace(recipe.config, n_dims=2, d_input=width, units=units)

    def train(
        sets: Sequence[PoseSet], held_out: Sequence[PoseSet], start: StartingFlow | None
    ) -> tuple[StartingFlow, Trained]:
        with run.seeded():
            net, gate = StartingNet(shape), NarrowGate(width)
        training = recipe.training
        if start is not None:
            copy_weights(start.modules, (net, gate))
            training = training.going_on(recipe.refit_epochs)
        trained = StartingTrainer(net, gate, training, run).fit(sets, held_out)
        return StartingFlow(net, gate, plan.n_neighbors, plan.size), trained

    return train_held_out(folds, draw, train, recipe, run)


def cross_fitted_layouts(
    embeddings: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    folds: Folds,
    recipe: NetworkRecipe,
    run: Run,
) -> list[Coords]:
    """The network's layout of every slide, by a network of the slides outside its group."""
    shape, plan = replace(recipe.config, d_input=embeddings[0].shape[1]), recipe.plan
    found: dict[int, Coords] = {}
    for group in folds.groups:
        others = [i for i in range(len(embeddings)) if i not in group]
        h, x = ([torch.from_numpy(parts[i]) for i in others] for parts in (embeddings, coords))
        options = {"size": plan.size, "n_neighbors": plan.n_neighbors, "random_state": run.seed}
        with run.seeded():
            net, gate = IPALiteNet(shape), EdgeGate(shape.d_input)
        IPALiteTrainer(net, gate, recipe.training, run).fit(sample_minisets(h, x, plan.n_minisets, **options))
        network = NetworkLayout(net, gate, plan.n_neighbors)
        found |= {i: network.apply(embeddings[i], run)[-1].numpy() for i in group}
    return [found[i] for i in range(len(embeddings))]


def layouts(
    slides: Slides,
    seed: int,
    embed: EncoderRecipe | None = None,
    network: NetworkRecipe | None = None,
    recipe: FlowRecipe | None = None,
) -> Layouts:
    """Flows by themselves and finished with the network's layout and the map, on the embedding of ``quality="fast"``."""
    run, (known, query) = Run(seed), read(slides)
    network, recipe = network or NetworkRecipe(), recipe or FlowRecipe()
    folds = Folds.of(known.sizes, run)
    fit = fit_embedding(known, folds, embed or RECIPE, run)
    features, own = embed_slide(fit.encoder, query), slide_pcs_of(fit.encoder, query)
    h, overview = features.embedding, global_map(features.global_features).numpy()
    layout = fit_network(fit.cross_fitted, known.coords, folds, network, run).stage.apply(h, run)[-1].numpy()
    table = cell_ellipses(slides.train, library_key="slide", key_added="ellipses", copy=True).obsm["ellipses"]
    ellipses = [np.asarray(table, dtype=np.float32)[rows] for rows in known.rows]

    def finished(expected: Coords) -> Coords:
        blend = Blend(0.5, 0.5).apply(torch.from_numpy(layout), features.global_features, expected).numpy()
        return sharpen_layout(blend, features, SHARPENING, own, run)

    def rows(name: str, flow: Flow) -> Layouts:
        drawn, expected = flow.sample(h, N_SAMPLES, n_steps=N_STEPS, run=Run(seed)), flow.expected_layout(h, run)
        yield f"flow from {name}: one sample", drawn.coords[0]
        yield f"flow from {name}: mean of {N_SAMPLES} samples", drawn.point("mean")
        yield f"flow from {name}: the layout it expects", expected
        yield f"flow from {name}: finished", finished(expected)

    yield from rows("noise", fit_flow(fit.cross_fitted, known.coords, ellipses, folds, recipe, run).stage)
    starts = {
        "the global map": ([global_map(one).numpy() for one in fit.cross_fitted_global], overview),
        "the network's layout": (cross_fitted_layouts(fit.cross_fitted, known.coords, folds, network, run), layout),
    }
    for name, (taught, asked) in starts.items():
        wide = [beside(*pair) for pair in zip(fit.cross_fitted, taught, strict=True)]
        flow = fit_starting_flow(wide, known.coords, ellipses, folds, recipe, run).stage
        yield from rows(name, replace(flow, layout=torch.from_numpy(asked)))
