"""The training loop of IGA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ipar.nn import AttentionSignals, EdgeGate, IGANet, dense_gate, noise_poses
from ipar.training.epochs import EpochTrainer, Trained, add_up
from ipar.training.flow_losses import FlowWeights, corrupt, flow_losses
from ipar.training.gate import augment, pretrain_gate, step
from ipar.training.losses import gate_loss
from ipar.training.pose_sets import PoseBatch, PoseSet, collate_poses

POSE_TERMS = ("translation", "rotation", "auxiliary")
ELLIPSOID_TERMS = ("local_mean", "scaling")
SIGNALS = ("geo_scaled_absmax", "wmax_sat_frac", "log_det_min")
FLOW_HISTORY = [
    *("epoch", "lr", "clean_weight", "total", *POSE_TERMS, *ELLIPSOID_TERMS, "gate", *SIGNALS),
    *(f"val_{name}" for name in (*POSE_TERMS, *ELLIPSOID_TERMS)),
    *("val_pose", "val_pose_clean"),
]
_VALIDATION_TIMES = (0.1, 0.4, 0.7, 0.9)


@dataclass(frozen=True)
class FlowTraining:
    """How an :class:`~ipar.nn.IGANet` is trained.

    Attributes
    ----------
    max_epochs
        Passes over the sets.
    batch_size
        Sets a step: each has one time and one noise. Twice as many steps of half the sets learn more in the same time.
    lr, lr_min, weight_decay, clip
        AdamW, its cosine end, and the gradient norm that is allowed.
    average
        Decay of the moving average of the weights, which is what is kept: losses at random times are noisy. It starts
        lower, so that first, random weights are forgotten.
    curriculum_share
        Share of the training after which ``attention_geometry="curriculum"`` reads the denoised Gaussians alone; until
        then the share of the true ones falls in a straight line.
    gate_steps
        Steps of pretraining of the gate alone.
    h_noise, h_dropout, edge_drop
        Augmentation, as for IPA-Lite.
    weights
        Weights of the losses.
    """

    max_epochs: int = 30
    batch_size: int = 2
    lr: float = 2e-3
    lr_min: float = 2e-5
    weight_decay: float = 1e-3
    clip: float = 1.0
    average: float = 0.98
    curriculum_share: float = 0.6
    gate_steps: int = 300
    h_noise: float = 0.3
    h_dropout: float = 0.1
    edge_drop: float = 0.2
    weights: FlowWeights = field(default_factory=FlowWeights)


class FlowTrainer(EpochTrainer[PoseSet]):
    """Trains a denoising network and its gate on pose sets.

    Parameters
    ----------
    net, gate
        What is trained, in place.
    config
        The recipe.
    random_state
        Seed; the global random state is left as it was.
    """

    columns, watched = FLOW_HISTORY, "val_pose"

    def __init__(self, net: IGANet, gate: EdgeGate, config: FlowTraining, *, random_state: int = 0) -> None:
        super().__init__(net, gate, config, random_state=random_state)
        self.net, self.config = net, config
        self.generator = torch.Generator().manual_seed(random_state)
        self.average = self._fresh_average()

    def _fresh_average(self) -> AveragedModel:
        return AveragedModel(self.net, multi_avg_fn=moving_average(self.config.average))

    def fit(
        self,
        train: Sequence[PoseSet],
        validation: Sequence[PoseSet] = (),
        *,
        n_epochs: int | None = None,
        progress: bool = False,
    ) -> Trained:
        """Pretrain the gate, then train both.

        Parameters
        ----------
        train
            Sets to learn from.
        validation
            Sets of a left-out slide: the epoch with the lowest pose losses on them is kept, among those in which attention
            reads what it reads at the end. Without any, the last epoch is.
        n_epochs
            Length of the schedule; that of the recipe, if None.
        progress
            Show a bar with the losses.
        """
        n_epochs = n_epochs or self.config.max_epochs
        self.average = self._fresh_average()  # a second call starts from the weights of the first, not from its average
        trained = self._run(train, validation, n_epochs, n_epochs, progress=progress)
        self.net.load_state_dict(self.average.module.state_dict())
        return trained

    def prepare(self, train: Sequence[PoseSet], rng: np.random.Generator) -> None:
        """Train the gate alone on its KL."""
        pretrain_gate(self.gate, [one.miniset for one in train], self.config, rng)

    def weights_of(self, epoch: int, n_epochs: int) -> dict[str, float]:
        """What changes from epoch to epoch: :meth:`clean_weight`."""
        return {"clean_weight": self.clean_weight(epoch, n_epochs)}

    def clean_weight(self, epoch: int, n_epochs: int) -> float:
        """Share of the true Gaussians in what attention reads in an epoch."""
        mode = self.net.config.attention_geometry
        if mode != "curriculum":
            return float(mode == "clean")
        return max(0.0, 1 - epoch / max(self.config.curriculum_share * n_epochs, 1e-9))

    def train_step(
        self, sets: Sequence[PoseSet], weights: dict[str, float], optimiser: torch.optim.Optimizer
    ) -> dict[str, float]:
        """One step at one time and one noise a set, and one of the average."""
        batch = collate_poses(sets, self.device)
        minisets = augment(batch.minisets, self.config)
        scores = dense_gate(self.gate, minisets.h, minisets.candidates, self.dtype)
        time = torch.rand(len(sets), generator=self.generator).to(self.device)
        noisy, clean_weight = PoseBatch(minisets, batch.rigid), weights["clean_weight"]
        terms, signals = flow_terms(self.net, noisy, scores, time, self.generator, clean_weight, self.config.weights)
        terms["gate"] = gate_loss(scores, minisets.candidates, minisets.log_reference)
        terms["total"] = terms["total"] + self.config.weights.gate * terms["gate"]
        step(terms["total"], optimiser, self.config.clip)
        self.average.update_parameters(self.net)
        found = {name: value.item() for name, value in terms.items()}
        return found | {name: getattr(signals, name).item() for name in SIGNALS}

    def validate(self, sets: Sequence[PoseSet]) -> dict[str, float]:
        """Losses of the averaged network."""
        return validate_flow(cast(IGANet, self.average.module), self.gate, sets) if sets else {}

    def counts(self, epoch: int, n_epochs: int) -> bool:
        """Whether attention reads what it reads at the end."""
        return self.clean_weight(epoch, n_epochs) == self.clean_weight(n_epochs - 1, n_epochs)

    def kept(self) -> Sequence[nn.Module]:
        """The averaged network and the gate."""
        return self.average.module, self.gate

    def shown(self, losses: dict[str, float]) -> dict[str, str]:
        """The translation loss."""
        return {"translation": f"{losses['translation']:.3f}"}


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
def validate_flow(net: IGANet, gate: EdgeGate, sets: Sequence[PoseSet], *, random_state: int = 0) -> dict[str, float]:
    """Losses on held-out sets at four times, with the same noise at every call.

    Returns
    -------
    dict
        ``val_…`` of every term with attention on the denoised Gaussians, as at inference; ``val_pose``, the sum of
        translation, rotation and auxiliary; and ``val_pose_clean``, the same sum with attention on the true ones.
    """
    net.eval()
    device = next(net.parameters()).device
    found: dict[str, float] = {}
    for one in sets:
        batch = collate_poses([one] * len(_VALIDATION_TIMES), device)
        time = torch.tensor(_VALIDATION_TIMES, device=device)
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
