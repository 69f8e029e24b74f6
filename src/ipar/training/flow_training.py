"""Training of the denoising network and its gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ipar._run import Run
from ipar.nn.gate import EdgeGate, dense_gate
from ipar.nn.gaussian_attention import AttentionSignals
from ipar.nn.iga import IGANet
from ipar.nn.pose_flow import noise_poses
from ipar.training.epochs import EpochTrainer, EpochTraining, Trained, add_up
from ipar.training.flow_losses import FlowWeights, corrupt, flow_losses
from ipar.training.gate import augment
from ipar.training.losses import gate_loss
from ipar.training.minisets import Miniset
from ipar.training.pose_sets import PoseBatch, PoseSet, collate_poses

POSE_TERMS = ("translation", "rotation", "auxiliary")
ELLIPSOID_TERMS = ("local_mean", "scaling")
SIGNALS = ("geo_scaled_absmax", "wmax_sat_frac", "log_det_min")


@dataclass(frozen=True)
class FlowTraining(EpochTraining):
    """How an :class:`~ipar.nn.IGANet` and its gate are trained.

    Each set of a step has one time and one noise. Twice as many steps of half the sets learn more in the same time.

    Attributes
    ----------
    average
        Decay of the moving average of the weights, which is what is kept: losses at random times are noisy. It starts
        lower, so that first, random weights are forgotten.
    curriculum_share
        Share of the training after which ``attention_geometry="curriculum"`` reads the denoised Gaussians alone. Until
        then the share of the true ones falls in a straight line.
    validation_times
        Times at which the losses on the held-out slide are measured.
    weights
        Weights of the losses.
    """

    max_epochs: int = 30
    lr: float = 2e-3
    lr_min: float = 2e-5
    weight_decay: float = 1e-3
    gate_steps: int = 300
    average: float = 0.98
    curriculum_share: float = 0.6
    validation_times: tuple[float, ...] = (0.1, 0.4, 0.7, 0.9)
    weights: FlowWeights = field(default_factory=FlowWeights)

    def going_on(self, n_epochs: int) -> Self:
        """Also without a curriculum: attention reads what it reads at the end."""
        return replace(super().going_on(n_epochs), curriculum_share=0.0)


class FlowTrainer(EpochTrainer[PoseSet]):
    """Trains a denoising network and its gate on pose sets."""

    columns = [
        *("epoch", "lr", "clean_weight", "total", *POSE_TERMS, *ELLIPSOID_TERMS, "gate", *SIGNALS),
        *(f"val_{name}" for name in ("translation", "rotation", "auxiliary", "local_mean", "scaling")),
        *("val_pose", "val_pose_clean"),
    ]
    watched, shown = "val_pose", ("translation",)

    def __init__(self, net: IGANet, gate: EdgeGate, config: FlowTraining, run: Run | None = None) -> None:
        super().__init__(net, gate, config, run)
        self.net, self.config, self.generator = net, config, self.run.generator
        self.average = self._fresh_average()

    def _fresh_average(self) -> AveragedModel:
        return AveragedModel(self.net, multi_avg_fn=moving_average(self.config.average))

    def fit(self, train: Sequence[PoseSet], validation: Sequence[PoseSet] = ()) -> Trained:
        """Train as :meth:`EpochTrainer.fit`; the network is left with its averaged weights."""
        self.average = self._fresh_average()  # a second call starts from the weights of the first, not from its average
        trained = super().fit(train, validation)
        self.net.load_state_dict(self.average.module.state_dict())
        return trained

    def minisets(self, sets: Sequence[PoseSet]) -> Sequence[Miniset]:
        """The sets without their poses."""
        return [one.miniset for one in sets]

    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """What changes from epoch to epoch: :meth:`clean_weight`."""
        return {"clean_weight": self.clean_weight(epoch, n_epochs)}

    def clean_weight(self, epoch: int, n_epochs: int) -> float:
        """Share of the true Gaussians in what attention reads in an epoch."""
        mode = self.net.config.attention_geometry
        if mode != "curriculum":
            return float(mode == "clean")
        length = self.config.curriculum_share * n_epochs
        return max(0.0, 1 - epoch / length) if length else 0.0

    def losses(self, sets: Sequence[PoseSet], weights: dict[str, float]) -> dict[str, Tensor]:
        """Losses at one time and one noise per set, and attention's signals."""
        batch = collate_poses(sets, self.device)
        minisets = augment(batch.minisets, self.config)
        scores = dense_gate(self.gate, minisets.h, minisets.candidates, self.dtype)
        time = torch.rand(len(sets), generator=self.generator).to(self.device)
        noisy, clean_weight = PoseBatch(minisets, batch.rigid), weights["clean_weight"]
        terms, signals = flow_terms(self.net, noisy, scores, time, self.generator, clean_weight, self.config.weights)
        terms["gate"] = gate_loss(scores, minisets.candidates, minisets.log_reference)
        terms["total"] = terms["total"] + self.config.weights.gate * terms["gate"]
        return terms | {name: getattr(signals, name) for name in SIGNALS}

    def stepped(self) -> None:
        """Move the average."""
        self.average.update_parameters(self.net)

    def validate(self, sets: Sequence[PoseSet]) -> dict[str, float]:
        """Losses of the averaged network."""
        if not sets:
            return {}
        return validate_flow(cast(IGANet, self.average.module), self.gate, sets, times=self.config.validation_times)

    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether attention reads what it reads at the end."""
        return self.clean_weight(epoch, n_epochs) == self.clean_weight(n_epochs - 1, n_epochs)

    def kept(self) -> Sequence[nn.Module]:
        """The averaged network and the gate."""
        return self.average.module, self.gate


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Moving average of weights for :class:`torch.optim.swa_utils.AveragedModel`, of fewer steps while there are few.

    With a constant decay the first, random weights would weigh in for as long as the average is.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, new in zip(averaged, current, strict=True):
            mean.lerp_(new, 1 - kept)

    return update


def flow_terms(
    net: IGANet,
    batch: PoseBatch,
    scores: Tensor,
    time: Tensor,
    generator: torch.Generator,
    clean_weight: float,
    weights: FlowWeights,
) -> tuple[dict[str, Tensor], AttentionSignals]:
    """Losses by name, their weighted total among them, and attention's signals, of one batch at given times."""
    config, mask = net.config, batch.minisets.mask
    noise = noise_poses((mask.shape[0], mask.shape[1]), config, generator, mask.cpu()).map(lambda x: x.to(time.device))
    state, target = corrupt(batch.rigid, noise, time, config)
    out = net(
        batch.minisets.h,
        batch.minisets.candidates,
        state,
        time,
        scores,
        mask=mask,
        clean=target if clean_weight else None,
        clean_weight=torch.full_like(time, clean_weight),
    )
    losses = flow_losses(out, state, target, time, mask, config)
    return losses.as_dict() | {"total": losses.total(weights)}, out.signals


@torch.no_grad()
def validate_flow(
    net: IGANet,
    gate: EdgeGate,
    sets: Sequence[PoseSet],
    *,
    times: Sequence[float] = FlowTraining.validation_times,
    random_state: int = 0,
) -> dict[str, float]:
    """Losses on held-out sets at several times, with the same noise at every call.

    ``val_…`` of every term with attention on the denoised Gaussians, as at inference; ``val_pose``, the sum of translation,
    rotation and auxiliary; ``val_pose_clean``, the same sum with attention on the true ones.
    """
    net.eval()
    device = next(net.parameters()).device
    found: dict[str, float] = {}
    for one in sets:
        batch = collate_poses([one] * len(times), device)
        time = torch.tensor(times, device=device)
        scores = dense_gate(gate, batch.minisets.h, batch.minisets.candidates)
        for clean in (0.0, 1.0):
            generator = torch.Generator().manual_seed(random_state)
            terms, _ = flow_terms(net, batch, scores, time, generator, clean, FlowWeights())
            pose = sum(terms[name].item() for name in POSE_TERMS)
            values = {"val_pose_clean": pose} if clean else {"val_pose": pose}
            if not clean:
                values |= {f"val_{name}": terms[name].item() for name in (*POSE_TERMS, *ELLIPSOID_TERMS)}
            add_up(found, values, len(sets))
    return found
