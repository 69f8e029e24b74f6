"""A step does not wait for the device: counted on a CPU, and on a device without values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipar._run import Run
from ipar.model import Features, Sharpening
from ipar.model.consensus import ConsensusPlan
from ipar.model.network import NetworkLayout
from ipar.model.sharpening import sharpen_layout
from ipar.nn import EdgeGate, IGAConfig, IGANet, IPALiteConfig, IPALiteNet, SharedEncoder
from ipar.training import EncoderTraining, FlowTraining, IPALiteTraining, SetEncoderTraining
from ipar.training import gate as gate_module
from ipar.training.encoder_training import train_encoder
from ipar.training.flow_training import FlowTrainer
from ipar.training.minisets import sample_minisets
from ipar.training.network import IPALiteTrainer
from ipar.training.pose_sets import sample_pose_sets
from ipar.training.set_encoder import fit_set_encoder
from tests.syncs import host_syncs

N_SETS = 8
COORDS = torch.randn(150, 2, generator=torch.Generator().manual_seed(0))
H = torch.cat([COORDS, torch.randn(150, 10, generator=torch.Generator().manual_seed(1))], 1)
SHAPES = torch.tensor([[0.0, 0.0, 0.3, 0.2, 0.5]]).expand(len(H), -1)


def test_what_waits_is_counted():
    x = torch.rand(4, 4)
    waiting = {
        "item": lambda: x.sum().item(),
        "branch": lambda: bool(x.sum() > 0),
        "int": lambda: int(x.sum()),
        "nonzero": lambda: x.nonzero(),
        "mask": lambda: x[x > 0.5],
        "put": lambda: x.clone().index_put((x > 0.5,), torch.zeros(())),
        "select": lambda: x.masked_select(x > 0.5),
        "list": lambda: x.tolist(),
        "copy": lambda: x.cpu(),
        "array": lambda: np.asarray(x),
        "svd": lambda: torch.linalg.svd(x),
    }
    for name, call in waiting.items():
        with host_syncs() as syncs:
            call()
        assert syncs.count == 1, (name, syncs.found)
    with host_syncs() as syncs:
        (x[torch.tensor([0, 2])] @ x).exp().where(x[:2] > 0.5, 0.0)
    assert syncs.count == 0


def network(config="v1", **training):
    shape = getattr(IPALiteConfig, config)(d_input=12, d_state=16, n_heads=2, d_head=8)
    how = IPALiteTraining(**{"gate_steps": 0, "max_epochs": 1, **training})
    gate = EdgeGate(12, shape.gate_heads)
    return IPALiteTrainer(IPALiteNet(shape), gate, how), sample_minisets([H], [COORDS], N_SETS, size=(40, 60))


def flow():
    net = IGANet(IGAConfig(d_input=12, d_state=16, n_heads=2, d_head=8, n_blocks=2))
    sets = sample_pose_sets([H], [COORDS], [SHAPES], N_SETS, size=(40, 60))
    return FlowTrainer(net, EdgeGate(12), FlowTraining(gate_steps=0, max_epochs=1)), sets


TRAINERS = [network, lambda: network("v2"), lambda: network("d7"), lambda: network("ipar2d"), flow]


@pytest.mark.parametrize("make", TRAINERS, ids=["v1", "v2", "d7", "ipar2d", "flow"])
def test_an_epoch_of_steps_reads_the_device_once(make):
    trainer, sets = make()
    with host_syncs() as syncs:
        trainer.prepare = syncs.pausing(trainer.prepare)  # on the host
        trainer.fit(sets)
    assert syncs.count <= 1, syncs.found
    assert syncs.doubles == 0


@pytest.mark.parametrize("make", TRAINERS, ids=["v1", "v2", "d7", "ipar2d", "flow"])
def test_a_step_needs_no_value_of_the_device_and_no_tensor_elsewhere(make):
    trainer, sets = make()
    trainer.device = torch.device("meta")  # has no values to be read, and refuses tensors of the host
    for module in trainer.modules:
        module.to("meta")
    ready = trainer.prepare(sets[:3], trainer.run.ranks.part(3))
    trainer.losses(ready, trainer.weights_of(0, 4))["total"].backward()
    trained = [p for module in trainer.modules for p in module.parameters() if p.grad is not None]
    assert {p.grad.device.type for p in trained} == {"meta"}


def test_steps_of_the_gate_alone_read_nothing(monkeypatch):
    trainer, sets = network(gate_steps=10)
    with host_syncs() as syncs:
        monkeypatch.setattr(gate_module.Ready, "of", syncs.pausing(gate_module.Ready.of))
        gate_module.pretrain_gate(trainer.gate, sets, trainer.config, np.random.default_rng(0))
    assert syncs.count == 0, syncs.found


def test_steps_of_the_encoders_read_nothing():
    with host_syncs() as syncs:
        train_encoder(SharedEncoder(12, hidden=(16,), n_output=8), [H], [COORDS], EncoderTraining(n_steps=5), Run())
        fit_set_encoder([H], [COORDS], SetEncoderTraining(n_steps=5, size=(20, 30)), Run())
    assert syncs.count == 0, syncs.found
    assert syncs.doubles == 0


def layout_network():
    shape = IPALiteConfig(d_input=12, d_state=16, n_heads=2, d_head=8)
    plan = ConsensusPlan(direct_max=60, subset_size=50, n_anchors=12, n_rounds=1)
    return NetworkLayout(IPALiteNet(shape), EdgeGate(12), 20, plan)


def test_a_batch_of_consensus_subsets_reads_the_device_once():
    stage = layout_network()
    with host_syncs() as syncs:
        for _ in range(3):
            stage.lay_out(H[:150].view(3, 50, 12))
    assert syncs.count <= 3, syncs.found
    assert syncs.doubles == 0


def test_batches_of_subsets_fill_an_accelerator():
    plan = layout_network().plan
    assert plan.on(torch.device("cpu")) == plan
    filled = plan.on(torch.device("cuda"))
    assert filled.batch_size * plan.subset_size == pytest.approx(plan.accelerator_cells, rel=0.01)


def test_layouts_do_not_depend_on_how_many_subsets_a_batch_has():
    stage = layout_network()
    alone = stage.apply(H.numpy(), Run())
    stage.plan.__dict__["batch_size"] = 4
    assert torch.allclose(stage.apply(H.numpy(), Run()), alone, atol=1e-5)


@pytest.mark.parametrize("evenness", [None, 0.2])
def test_a_step_of_sharpening_reads_the_device_once(evenness):
    def count(n_steps):
        how = Sharpening(n_steps=n_steps, evenness=evenness)
        with host_syncs() as syncs:
            sharpen_layout(COORDS.numpy(), Features(H.numpy(), H.numpy()), how)
        return syncs

    few, many = count(20), count(60)
    assert many.count - few.count <= 40, (few.found, many.found)
    assert many.doubles == few.doubles
