"""Training of the denoising network and its gate."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from ipar._ranks import Part, Ranks
from ipar._run import Run, sent
from ipar.geometry import OffsetGaussianRigid
from ipar.nn.gate import EdgeGate, dense_gate
from ipar.nn.gaussian_attention import AttentionSignals
from ipar.nn.iga import IGANet
from ipar.nn.pose_flow import noise_poses
from ipar.training.epochs import EpochTrainer, EpochTraining, Trained, add_up
from ipar.training.flow_losses import FlowWeights, corrupt, flow_losses
from ipar.training.gate import Ready, augment
from ipar.training.losses import taught_gate_loss
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


@dataclass(frozen=True)
class PoseReady(Ready):
    """The same of pose sets: clean poses, noise ``(B, n)`` and times ``(B,)``."""

    rigid: OffsetGaussianRigid
    noise: OffsetGaussianRigid
    time: Tensor

    @classmethod
    def of_poses(
        cls, batch: PoseBatch, noise: OffsetGaussianRigid, time: Tensor, part: Part, device: torch.device
    ) -> PoseReady:
        """The part of a batch of the host."""

        def own(x: Tensor) -> Tensor:
            return sent(x if part.whole else x[part.rows], device)

        ready = Ready.of(batch.minisets, part, device)
        return cls(ready.batch, ready.graph, part, batch.rigid.map(own), noise.map(own), own(time))


class FlowTrainer(EpochTrainer[PoseSet, PoseReady]):
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
        self.average = MovingAverage(self.net, self.config.average)

    def fit(self, train: Sequence[PoseSet], validation: Sequence[PoseSet] = ()) -> Trained:
        """Train as :meth:`EpochTrainer.fit`; the network is left with its averaged weights."""
        self.average = MovingAverage(
            self.net, self.config.average
        )  # a second call starts from the weights of the first, not from its average
        trained = super().fit(train, validation)
        self.net.load_state_dict(self.average.net.state_dict())
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

    def prepare(self, sets: Sequence[PoseSet], part: Part) -> PoseReady:
        """A padded, augmented batch, with one time and one noise per set."""
        batch = collate_poses(sets)
        batch = replace(batch, minisets=augment(batch.minisets, self.config))
        time, mask = torch.rand(len(sets), generator=self.generator), batch.minisets.mask
        noise = noise_poses((mask.shape[0], mask.shape[1]), self.net.config, self.generator, mask)
        return PoseReady.of_poses(batch, noise, time, part, self.device)

    def losses(self, ready: PoseReady, weights: dict[str, float]) -> dict[str, Tensor]:
        """Losses at one time and one noise per set, and attention's signals."""
        scores = dense_gate(self.gate, ready.batch.h, ready.graph, self.dtype)
        terms, signals = flow_terms(self.net, ready, scores, weights["clean_weight"], self.config.weights)
        terms = {name: ready.part.weight * value for name, value in terms.items()}
        terms["gate"] = taught_gate_loss(scores, ready.graph, ready.batch.log_reference, part=ready.part)
        terms["total"] = terms["total"] + self.config.weights.gate * terms["gate"]
        return terms | {name: getattr(signals, name) for name in SIGNALS}

    def stepped(self) -> None:
        """Move the average."""
        self.average.update()

    def validate(self, sets: Sequence[PoseSet]) -> dict[str, float]:
        """Losses of the averaged network."""
        if not sets:
            return {}
        return validate_flow(self.average.net, self.gate, sets, times=self.config.validation_times)

    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether attention reads what it reads at the end."""
        return self.clean_weight(epoch, n_epochs) == self.clean_weight(n_epochs - 1, n_epochs)

    def kept(self) -> Sequence[nn.Module]:
        """The averaged network and the gate."""
        return self.average.net, self.gate


class MovingAverage:
    """Moving average of the weights of a network, of fewer steps while there are few.

    With a constant decay the first, random weights would weigh in for as long as the average is. Steps are counted on the
    host: PyTorch's ``AveragedModel`` counts them on the device and waits for it.
    """

    def __init__(self, source: IGANet, decay: float) -> None:
        self.source, self.decay, self.count = source, decay, 0
        self.net = deepcopy(source)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights."""
        kept = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        for mean, new in zip(self.net.parameters(), self.source.parameters(), strict=True):
            mean.lerp_(new, 1 - kept)
        self.count += 1


def flow_terms(
    net: IGANet,
    ready: PoseReady,
    scores: Tensor,
    clean_weight: float,
    weights: FlowWeights,
) -> tuple[dict[str, Tensor], AttentionSignals]:
    """Losses by name, their weighted total among them, and attention's signals, of one batch."""
    config, mask, time = net.config, ready.batch.mask, ready.time
    state, target = corrupt(ready.rigid, ready.noise, time, config)
    out = net(
        ready.batch.h,
        ready.graph,
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
        batch = collate_poses([one] * len(times))
        generator = torch.Generator().manual_seed(random_state)
        noise = noise_poses((len(times), len(one)), net.config, generator, batch.minisets.mask)
        ready = PoseReady.of_poses(batch, noise, torch.tensor(times), Ranks().part(len(times)), device)
        scores = dense_gate(gate, ready.batch.h, ready.graph)
        for clean in (0.0, 1.0):
            terms, _ = flow_terms(net, ready, scores, clean, FlowWeights())
            pose = sum(terms[name].item() for name in POSE_TERMS)
            values = {"val_pose_clean": pose} if clean else {"val_pose": pose}
            if not clean:
                values |= {f"val_{name}": terms[name].item() for name in (*POSE_TERMS, *ELLIPSOID_TERMS)}
            add_up(found, values, len(sets))
    return found
