"""Minisets with poses: what the flow learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.ellipses import rigid_of_ellipses
from ipar.nn import EllipseUnits
from ipar.training.minisets import Miniset, MinisetBatch, collate, draw_cells, make_miniset

_SPREAD_MIN, _OFFSET_MIN = 0.1, 0.01  # spots on a grid have nearly one ellipse: their noise must not vanish


@dataclass(frozen=True)
class PoseSet:
    """One training example of the flow."""

    miniset: Miniset  # embeddings, candidates, and the targets of the gate
    rigid: OffsetGaussianRigid  # clean poses and Gaussians in RMS radii of the set, (n,)

    def __len__(self) -> int:
        return len(self.miniset)


@dataclass(frozen=True)
class PoseBatch:
    """Padded pose sets."""

    minisets: MinisetBatch
    rigid: OffsetGaussianRigid  # clean poses and Gaussians, (B, n); padding is at the origin


def sample_pose_sets(
    embeddings: Sequence[Tensor],
    coords: Sequence[Tensor],
    ellipses: Sequence[Tensor],
    n_sets: int,
    *,
    size: tuple[int, int] = (128, 256),
    n_neighbors: int = 48,
    random_state: int = 0,
) -> list[PoseSet]:
    """Draw subsets of slides, balanced over slides, as :func:`sample_minisets` does.

    Ellipses ``(n_s, 5 or 9)`` are in the coordinates' units, as :func:`ipar.pp.cell_ellipses` writes them.
    """
    generator = torch.Generator().manual_seed(random_state)
    if n_sets < len(embeddings):
        msg = f"n_minisets must be at least the number of slides, {len(embeddings)}, found {n_sets}."
        raise ValueError(msg)
    sets = []
    for i, pick in draw_cells([len(h) for h in embeddings], n_sets, size, random_state):
        places = coords[i][pick]
        miniset = make_miniset(embeddings[i][pick], places, n_neighbors, generator)
        radius = (places - places.mean(0)).square().sum(-1).mean().sqrt()
        sets.append(PoseSet(miniset, rigid_of_ellipses(miniset.coords, ellipses[i][pick], radius)))
    return sets


def collate_poses(sets: Sequence[PoseSet], device: torch.device | None = None) -> PoseBatch:
    """Pad pose sets to one batch."""
    batch = collate([one.miniset for one in sets], device)
    n = batch.mask.shape[1]
    padding = OffsetGaussianRigid.identity((n,), sets[0].rigid.n_dims)
    padded = [
        OffsetGaussianRigid(
            *(torch.cat([own, rest[len(one) :]]) for own, rest in zip(_parts(one.rigid), _parts(padding), strict=True))
        )
        for one in sets
    ]
    parts = [torch.stack(same) for same in zip(*map(_parts, padded), strict=True)]
    return PoseBatch(batch, OffsetGaussianRigid(*parts).map(lambda part: part.to(device)))


def _parts(rigid: OffsetGaussianRigid) -> list[Tensor]:
    return [rigid.rotation, rigid.translation, rigid.scaling_log, rigid.local_mean]


def ellipse_units(sets: Sequence[PoseSet]) -> EllipseUnits:
    """Centre and spread of the Gaussians of pose sets."""
    scaling = torch.cat([one.rigid.scaling_log for one in sets])
    offset = torch.cat([one.rigid.local_mean for one in sets]).square().mean().sqrt()
    return EllipseUnits(
        scaling_centre=scaling.mean().item(),
        scaling_spread=max(scaling.std().item(), _SPREAD_MIN),
        offset=max(offset.item(), _OFFSET_MIN),
    )
