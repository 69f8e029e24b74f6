"""The fitted generative model: encoder, gate and denoising network together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ipar.geometry import (
    OffsetGaussianRigid,
    apply_similarity,
    ellipses_of_rigid,
    gauge_fix,
    procrustes_transform,
)
from ipar.graph import cosine_candidates, thinned_candidates
from ipar.model._encoder import GeometryEncoder
from ipar.model._sharpen import Sharpening, sharpen_layout
from ipar.nn import EdgeGate, IGACondition, IGANet, dense_gate, follow_flow, graph_of, noise_poses

Point = Literal["medoid", "mean"]

MIN_CELLS = 5  # fewer points have no shape in space beyond a simplex
_BATCH_CELLS = 2_000  # cells of the samples that are drawn at once
_ALIGN_ITERATIONS = 3


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
class IGA:
    """A fitted generative model of poses; made by :func:`ipar.tl.fit_iga`, read by :func:`ipar.load`.

    Attributes
    ----------
    encoder
        From expression to the embedding.
    net, gate
        Denoising network and edge gate.
    n_neighbors
        Candidates a cell.
    set_size
        Smallest and largest set trained on.
    record
        Localisability and settings of the fit.
    sharpening
        How cells alike in expression are drawn together in the mean of samples, which blurs what they do not agree on;
        chosen on a left-out slide, None leaves this out. Single samples stay as they are drawn.
    """

    encoder: GeometryEncoder
    net: IGANet
    gate: EdgeGate
    n_neighbors: int
    set_size: tuple[int, int] = (128, 256)
    record: dict[str, Any] = field(default_factory=dict)
    sharpening: Sharpening | None = None

    def __repr__(self) -> str:
        config = self.net.config
        fitted = f"{len(self.encoder.genes)} genes, inputs={self.encoder.record.get('inputs')!r}"
        return f"IGA({fitted}, n_dims={config.n_dims}, attention_geometry={config.attention_geometry!r})"

    def sample(
        self,
        h: NDArray[np.float32],
        n_samples: int = 20,
        *,
        n_steps: int = 50,
        random_state: int = 0,
        progress: bool = False,
    ) -> PoseSamples:
        """Draw layouts of one set of cells of any size.

        Every sample follows one flow of all cells together, so that it is one answer throughout: averages of overlapping
        parts, as :meth:`IPALite.layout` takes them, would blend the modes of a tissue that mirrors itself. In a set larger
        than those trained on, each cell attends to candidates in a random subset of the trained size, other ones for every
        cell and sample: to attention the set looks as those of the training did, and time and memory are linear in cells.

        Parameters
        ----------
        h
            Embeddings, ``(n, e)``.
        n_samples
            Layouts.
        n_steps
            Euler steps of each.
        random_state
            Seed of noise and subsets.
        progress
            Show a bar over steps.

        Raises
        ------
        ValueError
            If there are too few cells, samples or steps.
        """
        n = len(h)
        if n < MIN_CELLS:
            msg = f"At least {MIN_CELLS} cells are needed for a layout, found {n}."
            raise ValueError(msg)
        if n_samples < 1 or n_steps < 1:
            msg = f"n_samples and n_steps must be at least 1, found {n_samples} and {n_steps}."
            raise ValueError(msg)
        embedding = torch.from_numpy(np.ascontiguousarray(h, dtype=np.float32))[None]
        generator = torch.Generator().manual_seed(random_state)
        together = max(1, min(n_samples, _BATCH_CELLS // n)) if n <= self.set_size[1] else 1
        drawn: list[OffsetGaussianRigid] = []
        with tqdm(total=n_samples * n_steps, desc="sample", unit="step", disable=not progress) as bar:
            while (done := sum(len(part.translation) for part in drawn)) < n_samples:
                size = min(together, n_samples - done)
                drawn.append(self._draw(embedding, size, n_steps, generator, partial(bar.update, size)))
        parts = [torch.cat([getattr(one, name) for one in drawn]) for name in OffsetGaussianRigid.__annotations__]
        return aligned_samples(OffsetGaussianRigid(*parts))

    def sharpened(
        self,
        layout: NDArray[np.float32],
        h: NDArray[np.float32],
        far: NDArray[np.float32],
        components: NDArray[np.float32] | None = None,
        *,
        random_state: int = 0,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """A mean of samples with its neighbourhoods sharpened; as it is, where the model has no strength for it.

        Parameters
        ----------
        layout
            The mean, gauge-fixed, ``(n, 2)``.
        h, far, components, random_state, progress
            As in :meth:`IPALite.layout`; ``random_state`` is the seed of the pairs.

        Returns
        -------
        NDArray
            Gauge-fixed, turned onto ``layout``, ``(n, 2)``.
        """
        if self.sharpening is None:
            return layout
        options: dict[str, Any] = {"components": components, "random_state": random_state, "progress": progress}
        sharp, start = map(torch.from_numpy, (sharpen_layout(layout, h, far, self.sharpening, **options), layout))
        turned: NDArray[np.float32] = gauge_fix(apply_similarity(sharp, procrustes_transform(sharp, start))).numpy()
        return turned

    @torch.no_grad()
    def _draw(
        self, h: Tensor, size: int, n_steps: int, generator: torch.Generator, callback: Callable[[], object]
    ) -> OffsetGaussianRigid:
        """Some samples at once, ``(size, n)``."""
        self.net.eval()
        device = next(self.net.parameters()).device
        condition = self._condition(h.to(device), size, generator)
        start = noise_poses((size, h.shape[1]), self.net.config, generator).map(lambda part: part.to(device))
        return follow_flow(self.net, condition, start, n_steps, callback=callback).map(Tensor.cpu)

    def _condition(self, h: Tensor, size: int, generator: torch.Generator) -> IGACondition:
        n = h.shape[1]
        if n <= self.set_size[1]:
            index = cosine_candidates(h, self.n_neighbors)
        else:
            context = sum(self.set_size) // 2
            index = thinned_candidates(h[0], self.n_neighbors, context, generator)[None]
        graph = graph_of(index)
        scores = dense_gate(self.gate, h, graph)
        if size > 1:
            graph, scores = graph_of(index.expand(size, -1, -1)), scores.expand(size, -1, -1)
        return self.net.condition(h.expand(size, -1, -1), graph, scores)

    def save(self, path: str | Path) -> None:
        """Write the model to a directory; see :meth:`IPALite.save`.

        Parameters
        ----------
        path
            Directory; made where it is missing, replaced where it holds a model.

        Raises
        ------
        FileExistsError
            If the path exists and is not a model's directory.
        """
        from ipar.model._io import write_model

        write_model(self, Path(path))


def aligned_samples(samples: OffsetGaussianRigid) -> PoseSamples:
    """Bring samples ``(S, n)`` to unit RMS radius and turn them, ellipses too, onto their mean."""
    x = samples.translation
    centred = x - x.mean(1, keepdim=True)
    radius = centred.square().sum(-1).mean(-1).sqrt().clamp_min(1e-8)
    fixed = gauge_fix(x)
    reference = fixed[:1]
    for _ in range(_ALIGN_ITERATIONS):
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
