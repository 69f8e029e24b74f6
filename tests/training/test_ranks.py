"""Several processes take the steps of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from ipar._ranks import Ranks
from ipar._run import Run
from ipar.nn import EdgeGate, IGAConfig, IGANet, IPALiteConfig, IPALiteNet
from ipar.training.flow_training import FlowTrainer, FlowTraining
from ipar.training.minisets import sample_minisets
from ipar.training.network import IPALiteTrainer, IPALiteTraining
from ipar.training.pose_sets import sample_pose_sets


@dataclass(frozen=True)
class Simulated(Ranks):
    """One of several ranks in a process of its own: sums are those of a pass before, in which each noted its terms."""

    noted: list[list[Tensor]] = field(default_factory=list)  # of every sum so far, one term per rank
    done: list[int] = field(default_factory=lambda: [0])

    def sum(self, x):
        number = self.done[0]
        self.done[0] += 1
        if number == len(self.noted):
            self.noted.append([])
        if len(self.noted[number]) < self.count:
            self.noted[number].append(x.detach().clone())
            return x.detach()
        return torch.stack(self.noted[number]).sum(0)


def gradients(step, count):
    """Gradients of a step, summed over ranks."""
    noted = []
    for _ in ("note terms", "use sums"):
        total = None
        for rank in range(count):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                found = step(Simulated(rank, count, noted=noted) if count > 1 else Ranks())
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    return total


def double(module):
    torch.manual_seed(1)
    return module().double()


def grads(*modules):
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]


def tissue(n=90):
    coords = torch.randn(n, 2, dtype=torch.float64)
    h = torch.cat([coords, torch.randn(n, 10, dtype=torch.float64)], 1)
    return h, coords


def precise(one):
    """Minisets whose tensors are doubles, since padding is of single precision."""
    return one.map(lambda x: x.double() if x.is_floating_point() else x)


def network_step(ranks):
    h, coords = tissue()
    sets = sample_minisets([h.float()], [coords.float()], 3, size=(30, 50), n_neighbors=12)
    net = double(lambda: IPALiteNet(IPALiteConfig(d_input=12, d_state=16, n_heads=2, d_head=8, n_recycles=2)))
    gate = double(lambda: EdgeGate(12))
    trainer = IPALiteTrainer(net, gate, IPALiteTraining(), Run(ranks=ranks, precision="32-true"))
    trainer.dtype = torch.float64
    part = ranks.part(len(sets))
    ready = trainer.prepare(sets, part)
    ready = replace(ready, batch=precise(ready.batch))
    with part.drawing():
        trainer.losses(ready, {"w_rw": 0.3})["total"].backward()
    return grads(net, gate)


def flow_step(ranks):
    h, coords = tissue()
    shapes = torch.tensor([[0.0, 0.0, 0.3, 0.2, 0.5]]).expand(len(h), -1)
    sets = sample_pose_sets([h.float()], [coords.float()], [shapes], 3, size=(30, 50), n_neighbors=12)
    net = double(lambda: IGANet(IGAConfig(d_input=12, d_state=16, n_heads=2, d_head=8, n_blocks=2)))
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)  # of some the gradient is zero at the start
    gate = double(lambda: EdgeGate(12))
    trainer = FlowTrainer(net, gate, FlowTraining(), Run(ranks=ranks, precision="32-true"))
    trainer.dtype = torch.float64
    part = ranks.part(len(sets))
    ready = trainer.prepare(sets, part)
    ready = replace(
        ready,
        batch=precise(ready.batch),
        rigid=ready.rigid.map(Tensor.double),
        noise=ready.noise.map(Tensor.double),
        time=ready.time.double(),
    )
    with part.drawing():
        trainer.losses(ready, {"clean_weight": 0.5})["total"].backward()
    return grads(net, gate)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("step", [network_step, flow_step])
def test_gradients_of_parts_of_a_batch_sum_to_those_of_the_batch(step, count):
    whole = gradients(step, 1)
    for found, wanted in zip(gradients(step, count), whole, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-12)
    assert max(g.abs().max() for g in whole) > 1e-3
