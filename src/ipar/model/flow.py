"""The generative model of poses as a fitted stage: embeddings in, samples of layouts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ipar._options import Count, Sizes, checked
from ipar._run import Run
from ipar.geometry import OffsetGaussianRigid, gauge_fix, procrustes_transform
from ipar.geometry.ellipses import ellipses_of_rigid
from ipar.graph.candidates import cosine_candidates, thinned_candidates
from ipar.model.io import State, loaded_module, module_arrays
from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.nn.gate import dense_gate
from ipar.nn.graph import graph_of
from ipar.nn.iga import IGACondition
from ipar.nn.pose_flow import follow_flow, noise_poses

Point = Literal["medoid", "mean"]

MIN_CELLS = 5  # fewer points have no shape in space beyond a simplex


@dataclass(frozen=True)
class PoseSamples:
    """Layouts drawn for one set of cells, in one frame.

    Attributes
    ----------
    coords
        Gauge-fixed, aligned by rotation or reflection, ``(S, n, d)``.
    ellipses
        Table of ellipses of every sample in the same frame and units, ``(S, n, 5 or 9)``.
    """

    coords: NDArray[np.float32]
    ellipses: NDArray[np.float32]

    @property
    def medoid(self) -> int:
        """The sample with the least squared distance to all others."""
        gaps = self.coords[:, None] - self.coords[None]
        return int(np.square(gaps).sum(axis=(1, 2, 3)).argmin())

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """Root mean squared distance of a cell's places from their mean, in RMS radii, ``(n,)``; 0 of a single sample."""
        gaps = self.coords - self.coords.mean(axis=0)
        spread: NDArray[np.float32] = np.sqrt(np.square(gaps).sum(axis=-1).mean(axis=0))
        return spread

    def point(self, kind: Point) -> NDArray[np.float32]:
        """One layout for all samples, gauge-fixed, ``(n, d)``."""
        if kind == "medoid":
            chosen: NDArray[np.float32] = self.coords[self.medoid]
            return chosen
        return np.asarray(gauge_fix(torch.from_numpy(self.coords.mean(axis=0))).numpy())


@dataclass(frozen=True)
class Flow:
    """A trained denoising network and its edge gate.

    Attributes
    ----------
    net, gate
        Denoising network and edge gate.
    n_neighbors
        Candidates per cell within a set.
    set_size
        Smallest and largest set of the training.
    """

    net: IGANet
    gate: EdgeGate
    n_neighbors: int = 48
    set_size: tuple[int, int] = (128, 256)

    @property
    def modules(self) -> list[torch.nn.Module]:
        """Its networks."""
        return [self.net, self.gate]

    def expected_layout(self, embedding: NDArray[np.float32], run: Run, n_draws: int = 8) -> NDArray[np.float32]:
        """The layout that the flow expects, gauge-fixed, ``(n, d)``.

        The clean layout that the network gives in one step from noise. Trained by squared errors, it is from pure noise the
        mean over all layouts that go with the cells. What noise is left in it is averaged over ``n_draws`` draws: more
        than eight bring nothing in a blend.
        """
        return self.sample(embedding, n_draws, n_steps=1, n_shared=4, run=run).point("mean")

    def sample(
        self,
        embedding: NDArray[np.float32],
        n_samples: int = 20,
        *,
        n_steps: int = 50,
        n_shared: int = 2,
        run: Run | None = None,
    ) -> PoseSamples:
        """Draw layouts of one slide of any size.

        Every sample follows one flow of all cells together, so that it is one answer throughout. In a set larger than those
        of the training, each cell attends to candidates in a random subset of the trained size: time and memory are linear
        in cells.

        Parameters
        ----------
        embedding
            Embedding, ``(n, e)``.
        n_samples
            Number of layouts.
        n_steps
            Euler steps per layout.
        n_shared
            Layouts of a large set that share their candidates, and the gate's work on them.
        run
            Seed of noise and subsets, and whether to show a bar over steps.

        Raises
        ------
        ValueError
            If there are too few cells, samples or steps.
        """
        run, n = run or Run(), len(embedding)
        if n < MIN_CELLS:
            msg = f"At least {MIN_CELLS} cells are needed for a layout, found {n}."
            raise ValueError(msg)
        if n_samples < 1 or n_steps < 1:
            msg = f"n_samples and n_steps must be at least 1, found {n_samples} and {n_steps}."
            raise ValueError(msg)
        if n_shared < 1:
            msg = f"n_shared must be at least 1, found {n_shared}."
            raise ValueError(msg)
        h = torch.from_numpy(np.ascontiguousarray(embedding, dtype=np.float32))[None]
        h = h.to(next(self.net.parameters()).device)
        generator, large = run.generator, n > self.set_size[1]
        # small sets fill a batch; of a large one, more than two at once only leave the cache
        shared, size = (n_shared, 2) if large else (n_samples, max(1, 2_000 // n))
        drawn: list[OffsetGaussianRigid] = []
        self.net.eval()
        with tqdm(total=n_samples * n_steps, desc="sample", unit="step", disable=not run.progress) as bar:
            for start in range(0, n_samples, shared):
                index, scores = self._candidates(h, generator)
                left = min(shared, n_samples - start)
                for batch in (min(size, left - done) for done in range(0, left, size)):
                    condition = self._condition(h, index, scores, batch)
                    drawn.append(self._draw(condition, (batch, n), n_steps, generator, partial(bar.update, batch)))
        parts = [torch.cat([getattr(one, name) for one in drawn]) for name in OffsetGaussianRigid.__annotations__]
        return aligned_samples(OffsetGaussianRigid(*parts))

    @torch.no_grad()
    def _candidates(self, h: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Candidates of one set ``(1, n, k)``, and the gate's scores of them."""
        if h.shape[1] <= self.set_size[1]:
            index = cosine_candidates(h, self.n_neighbors)
        else:
            index = thinned_candidates(h[0], self.n_neighbors, sum(self.set_size) // 2, generator)[None]
        return index, dense_gate(self.gate, h, graph_of(index))

    @torch.no_grad()
    def _condition(self, h: Tensor, index: Tensor, scores: Tensor, size: int) -> IGACondition:
        index, h, scores = (part.expand(size, -1, -1) for part in (index, h, scores))
        return self.net.condition(h, graph_of(index), scores)

    @torch.no_grad()
    def _draw(
        self,
        condition: IGACondition,
        shape: tuple[int, int],
        n_steps: int,
        generator: torch.Generator,
        callback: Callable[[], object],
    ) -> OffsetGaussianRigid:
        """Some samples at once, ``(size, n)``."""
        device = next(self.net.parameters()).device
        start = noise_poses(shape, self.net.config, generator).map(lambda part: part.to(device))
        return follow_flow(self.net, condition, start, n_steps, callback=callback).map(Tensor.cpu)

    def state(self) -> State:
        """Settings and arrays."""
        config = {"net": self.net.config.to_dict(), "n_neighbors": self.n_neighbors, "set_size": list(self.set_size)}
        return config, module_arrays(self.net, "net") | module_arrays(self.gate, "gate")

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Flow:
        """The stage of :meth:`state`."""
        shape = IGAConfig.from_dict(config["net"])
        net = loaded_module(lambda: IGANet(shape), arrays, "net")
        gate = loaded_module(lambda: EdgeGate(shape.d_input), arrays, "gate")
        own = checked(config, {"n_neighbors": Count, "set_size": Sizes})
        return cls(net, gate, own["n_neighbors"], tuple(own["set_size"]))


def aligned_samples(samples: OffsetGaussianRigid, n_iterations: int = 3) -> PoseSamples:
    """Bring samples ``(S, n)`` to unit RMS radius and turn them, ellipses too, onto their mean."""
    x = samples.translation
    centred = x - x.mean(1, keepdim=True)
    radius = centred.square().sum(-1).mean(-1).sqrt().clamp_min(1e-8)
    fixed = gauge_fix(x)
    reference = fixed[:1]
    for _ in range(n_iterations):
        turn = procrustes_transform(fixed, reference.expand_as(fixed))[1]
        reference = gauge_fix((fixed @ turn).mean(0, keepdim=True))
    turn = procrustes_transform(fixed, reference.expand_as(fixed))[1]
    scaled = replace(
        samples,
        translation=fixed,
        scaling_log=samples.scaling_log - radius.log()[:, None, None],
        local_mean=samples.local_mean / radius[:, None, None],
    )
    moved = scaled.move(turn.mT[:, None])
    return PoseSamples(moved.translation.numpy(), ellipses_of_rigid(moved).numpy())
