"""The training loop of IPA-Lite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ipar.nn import EdgeGate, IPALiteNet, dense_gate
from ipar.training._losses import LossWeights, gate_loss, layout_losses
from ipar.training._minisets import Miniset, MinisetBatch, batch_order, collate


@dataclass(frozen=True)
class IPALiteTraining:
    """The training recipe.

    Attributes
    ----------
    max_epochs
        Passes over the minisets.
    batch_size
        Minisets a step.
    lr, lr_min, weight_decay, clip
        AdamW, its cosine end, and the gradient norm that is allowed.
    ramp_epochs
        Epochs until the walk loss reaches its cap ``weights.walk``; epoch 0 is without it.
    patience
        Epochs without a better validation E_geo before stopping, counted from the cap on.
    gate_steps
        Steps of pretraining of the gate alone: 500, more overfits.
    h_noise, h_dropout, edge_drop
        Augmentation: noise on the embedding, share of its entries dropped, share of candidate edges dropped. Network
        and gate see the same augmented embedding.
    weights
        Weights of the losses.
    """

    max_epochs: int = 12
    batch_size: int = 4
    lr: float = 5e-4
    lr_min: float = 1e-5
    weight_decay: float = 5e-4
    clip: float = 1.0
    ramp_epochs: int = 6
    patience: int = 4
    gate_steps: int = 500
    h_noise: float = 0.3
    h_dropout: float = 0.1
    edge_drop: float = 0.2
    weights: LossWeights = field(default_factory=LossWeights)


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:  # not Linux
        flags = ""
    return frozenset(flags.split())


def fast_dtype(device: torch.device) -> torch.dtype:
    """Precision of the gate's edge work in training: bfloat16 where the hardware multiplies it, else float32.

    The gate is most of the work of a step; in bfloat16 it takes a third of the time on such a CPU.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = device.type == "cpu" and "avx512_bf16" in _cpu_flags()
    return torch.bfloat16 if native else torch.float32


def augment(batch: MinisetBatch, config: IPALiteTraining) -> MinisetBatch:
    """Noise and dropout on the embeddings, dropout of candidate edges."""
    h = batch.h + config.h_noise * torch.randn_like(batch.h)
    h = torch.nn.functional.dropout(h, config.h_dropout)
    kept = torch.rand(batch.candidates.shape, device=h.device) >= config.edge_drop
    return replace(batch, h=h, candidates=batch.candidates & kept)


def pretrain_gate(gate: EdgeGate, sets: Sequence[Miniset], config: IPALiteTraining, rng: np.random.Generator) -> None:
    """Train the gate alone on its KL."""
    device = next(gate.parameters()).device
    optimiser = torch.optim.AdamW(gate.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    sizes = [len(s) for s in sets]
    batches: list[list[int]] = []
    for _ in range(config.gate_steps):
        batches = batches or batch_order(sizes, config.batch_size, rng)
        batch = augment(collate([sets[i] for i in batches.pop()], device), config)
        loss = gate_loss(dense_gate(gate, batch.h, batch.candidates, fast_dtype(device)), batch.candidates, batch.log_reference)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gate.parameters(), config.clip)
        optimiser.step()


def train_ipalite(net,gate,train_sets,val_sets,config,*,random_state=0,log=print):
    import time
    device=next(net.parameters()).device
    dt=fast_dtype(device)
    with torch.random.fork_rng():
        torch.manual_seed(random_state); rng=np.random.default_rng(random_state)
        pretrain_gate(gate,train_sets,config,rng)
        params=[*net.parameters(),*gate.parameters()]
        opt=torch.optim.AdamW(params,lr=config.lr,weight_decay=config.weight_decay)
        sizes=[len(s) for s in train_sets]
        nb=-(-len(sizes)//config.batch_size)
        sch=torch.optim.lr_scheduler.CosineAnnealingLR(opt,config.max_epochs*nb,eta_min=config.lr_min)
        for epoch in range(config.max_epochs):
            t=time.time(); net.train()
            w=config.weights.walk*min(1,epoch/config.ramp_epochs); tot=[]
            for idx in batch_order(sizes,config.batch_size,rng):
                batch=augment(collate([train_sets[i] for i in idx],device),config)
                sc_=dense_gate(gate,batch.h,batch.candidates,dt)
                L=layout_losses(net(batch.h,batch.candidates,sc_,mask=batch.mask).coords,batch)
                gl=gate_loss(sc_,batch.candidates,batch.log_reference)
                loss=w*L.walk+.1*L.stress+.01*L.repulsion+.01*L.entropy+config.weights.gate*gl
                opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(params,config.clip); opt.step(); sch.step()
                tot.append([L.walk.item(),L.stress.item(),gl.item()])
            log(epoch,np.mean(tot,0).round(3),"val T/H",[round(v,3) for v in validate(net,gate,val_sets)],f"{time.time()-t:.0f}s")


@torch.no_grad()
def validate(
    net: IPALiteNet, gate: EdgeGate, sets: Sequence[Miniset], *, beta: float | None = None, batch_size: int = 4
) -> tuple[float, float]:
    """E_geo of held-out minisets: on target edges with gate scores zero, and on gated candidates."""
    device = next(net.parameters()).device
    net.eval()
    on_target, on_candidates = 0.0, 0.0
    order = sorted(range(len(sets)), key=lambda i: len(sets[i]))
    for start in range(0, len(order), batch_size):
        batch = collate([sets[i] for i in order[start : start + batch_size]], device)
        x = net(batch.h, batch.adjacency, mask=batch.mask).coords
        on_target += layout_losses(x, batch).e_geo.item() * len(batch.h)
        scores = dense_gate(gate, batch.h, batch.candidates)
        x = net(batch.h, batch.candidates, scores, mask=batch.mask, beta=beta).coords
        on_candidates += layout_losses(x, batch).e_geo.item() * len(batch.h)
    return on_target / len(sets), on_candidates / len(sets)
