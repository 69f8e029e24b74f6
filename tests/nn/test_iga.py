from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.rotation import random_rotation, rotation_log
from ipar.graph.candidates import cosine_candidates
from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.nn.block import attention_bias
from ipar.nn.gate import dense_gate
from ipar.nn.gaussian_attention import GaussianAttention, GaussianUpdateBlock
from ipar.nn.graph import graph_of
from ipar.nn.pose_flow import follow_flow, noise_poses

B, N, K, D_INPUT = 2, 30, 9, 12
SMALL = {"d_input": D_INPUT, "d_state": 16, "n_heads": 2, "d_head": 8}


def config(d, **changes):
    return IGAConfig(n_dims=d, **(SMALL | changes))


def network(d, **changes):
    net = IGANet(config(d, **changes)).eval()
    with torch.no_grad():  # updates start at zero: without this nothing would be tested
        for block in net.blocks:
            torch.nn.init.normal_(block.pose.linear.weight, std=0.1)
            torch.nn.init.normal_(block.attention.weight, mean=0.5)
    return net


def poses(d, n=N):
    scale, mean = torch.randn(2, B, n, d).unbind(0)
    return OffsetGaussianRigid(random_rotation((B, n), d), torch.randn(B, n, d), 0.4 * scale - 1, 0.1 * mean)


def gauss(rigid, i):
    mean, covariance = rigid.map(torch.Tensor.double).to_global(scale_min=0.05, scale_max=10.0)
    return mean[i].numpy(), covariance[i].numpy()


def close(one, other, tolerance=2e-4):
    for a, b in zip(one.to_global(), other.to_global(), strict=True):
        assert torch.allclose(a, b, atol=tolerance)


@pytest.fixture(params=[2, 3])
def d(request):
    return request.param


@pytest.fixture
def h():
    return torch.randn(B, N, D_INPUT)


@pytest.fixture
def time():
    return torch.tensor([0.2, 0.8])


def test_attention_by_loops_in_double_precision(d):
    attention, rigid = GaussianAttention(config(d)), poses(d)
    with torch.no_grad():
        attention.weight.copy_(torch.tensor([-1.0, 1.5]))
    s, mask, gate = torch.randn(B, N, 16), torch.rand(B, N, N) < 0.3, torch.randn(B, N, N)
    mask[:, 4] = False
    graph = graph_of(torch.zeros(B, N, 1, dtype=torch.long), form="dense")
    graph = replace(graph, mask=mask)
    message, vectors, signals = attention(s, rigid, graph, attention_bias(mask, gate, 2.0, s.dtype))
    query, key, value = (
        layer(s).detach().double().numpy() for layer in (attention.query, attention.key, attention.value)
    )
    strength = np.log1p(np.exp(attention.weight.detach().double().numpy()))
    absmax, lowest, saturated = 0.0, np.inf, 0
    for b, head in np.ndindex(B, 2):
        mean, covariance = gauss(rigid, b)
        columns = slice(8 * head, 8 * head + 8)
        for i in range(N):
            allowed = np.flatnonzero(mask[b, i])
            logits = []
            for j in allowed:
                total, gap = covariance[i] + covariance[j], mean[i] - mean[j]
                log_det = np.clip(np.linalg.slogdet(total)[1], -20, 20)
                energy = gap @ np.linalg.solve(total, gap) + log_det
                absmax, lowest = (
                    max(absmax, strength[head] * energy / 2, -strength[head] * energy / 2),
                    min(lowest, log_det),
                )
                logits.append(
                    query[b, i, columns] @ key[b, j, columns] / np.sqrt(8)
                    + 2 * gate[b, i, j]
                    - strength[head] * energy / 2
                )
            weights = softmax(np.array(logits)) if len(allowed) else np.zeros(0)
            saturated += len(allowed) and weights.max() > 0.99
            assert np.allclose(message[b, i, columns].detach(), weights @ value[b, allowed, columns], atol=1e-4)
            origin = rigid.translation[b, i].numpy() if len(allowed) else 0.0
            assert np.allclose(vectors[b, i, head].detach(), weights @ mean[allowed] - origin, atol=1e-4)
    assert signals.geo_scaled_absmax.item() == pytest.approx(absmax, rel=1e-4)
    assert signals.log_det_min.item() == pytest.approx(lowest, rel=1e-4)
    assert signals.wmax_sat_frac.item() == pytest.approx(saturated / (2 * mask.any(-1).sum().item()))


def test_an_edge_representation_is_a_bias_of_the_logits(d, h, time):
    net, rigid = network(d, pair_bias=True), poses(d)
    plain, graph = network(d), graph_of(cosine_candidates(h, K))
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if "pair" not in name})
    # z of an edge from the embeddings of its cells, and one bias per head of it
    condition = net.condition(h, graph)
    i, j = 3, int(graph.mask[0, 3].nonzero()[0])
    features = torch.cat([h[0, i], h[0, j], (h[0, i] - h[0, j]).abs(), h[0, i] * h[0, j]])
    torch.testing.assert_close(condition.pair[0, i, j], net.pair.rest(net.pair.first(features)), atol=1e-4, rtol=1e-4)
    found = net.denoise(condition, rigid, time).rigid.translation
    assert not torch.allclose(found, plain(h, graph, rigid, time).rigid.translation, atol=1e-4)
    attention, s = net.blocks[0].attention, torch.randn(B, N, 16)
    extra = torch.einsum("bijc,hc->bhij", condition.pair, attention.pair.weight)
    with_z = attention(s, rigid, graph, condition.bias, condition.pair)[0]
    torch.testing.assert_close(attention(s, rigid, graph, condition.bias + extra)[0], with_z, atol=1e-5, rtol=1e-4)
    found.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in net.pair.parameters() if p.requires_grad)
    assert all(block.attention.pair.weight.grad.abs().max() > 0 for block in net.blocks)


@pytest.mark.parametrize("pair_bias", [False, True])
@pytest.mark.parametrize("n", [N, 512])
def test_full_and_sparse_forms_agree(d, n, time, pair_bias):
    h, net, gate, rigid = torch.randn(B, n, D_INPUT), network(d, pair_bias=pair_bias), EdgeGate(D_INPUT), poses(d, n)
    index = cosine_candidates(h, K)
    full, sparse = (graph_of(index, form=form) for form in ("dense", "edges"))
    with torch.no_grad():
        one, other = (net(h, graph, rigid, time, dense_gate(gate, h, graph)) for graph in (full, sparse))
    for name in ("rotation", "translation", "scaling_log", "local_mean"):
        assert torch.allclose(getattr(one.rigid, name), getattr(other.rigid, name), atol=1e-5)
    assert torch.allclose(one.signals.geo_scaled_absmax, other.signals.geo_scaled_absmax, rtol=1e-4)
    assert one.signals.wmax_sat_frac == other.signals.wmax_sat_frac


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_the_output_moves_with_the_input(d, h, time, reflect, clean):
    net, rigid, graph = network(d), poses(d), graph_of(cosine_candidates(h, K))
    shown = poses(d) if clean else None
    turn = random_rotation((), d) @ torch.diag(torch.tensor([1.0] * (d - 1) + [-1.0 if reflect else 1.0]))
    shift = torch.randn(d)
    with torch.no_grad():
        expected = net(h, graph, rigid, time, clean=shown).rigid.move(turn, shift)
        moved = None if shown is None else shown.move(turn, shift)
        close(net(h, graph, rigid.move(turn, shift), time, clean=moved).rigid, expected)
        assert (net(h, graph, rigid, time).rigid.translation - rigid.translation).abs().max() > 0.05


def test_signs_of_axes_and_order_of_cells_change_nothing(d, h, time):
    net, rigid, order = network(d), poses(d), torch.randperm(N)
    signs = torch.ones(B, N, d)
    signs[:, ::2, :2] = -1
    flipped = replace(rigid, rotation=rigid.rotation * signs[..., None, :], local_mean=rigid.local_mean * signs)
    with torch.no_grad():
        found = net(h, graph_of(cosine_candidates(h, K)), rigid, time).rigid
        close(net(h, graph_of(cosine_candidates(h, K)), flipped, time).rigid, found)
        shuffled = h[:, order]
        again = net(shuffled, graph_of(cosine_candidates(shuffled, K)), rigid.map(lambda part: part[:, order]), time)
    close(again.rigid, found.map(lambda part: part[:, order]))


def test_padding_and_cells_without_candidates_change_nothing(d, h, time):
    net, rigid, mask = network(d), poses(d), torch.ones(B, N, dtype=torch.bool)
    mask[:, 20:] = False
    candidates = torch.rand(B, N, N) < 0.4
    candidates[:, 3] = False
    candidates &= mask[:, :, None] & mask[:, None]
    padded = rigid.map(lambda part: part.clone())
    padded.translation[:, 20:] = 0
    with torch.no_grad():
        whole = net(h, candidates, padded, time, mask=mask).rigid
        alone = net(h[:, :20], candidates[:, :20, :20], padded.map(lambda part: part[:, :20]), time).rigid
    close(whole.map(lambda part: part[:, :20]), alone)
    assert torch.isfinite(whole.to_vector()).all()


def test_attention_reads_the_clean_gaussians_and_the_current_poses(d, h, time):
    net, rigid, true = network(d), poses(d), poses(d)
    graph, seen = graph_of(cosine_candidates(h, K)), []
    for block in net.blocks:
        block.attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    with torch.no_grad():
        out = net(h, graph, rigid, time, clean=true)
        half = net(h, graph, rigid, time, clean=true, clean_weight=torch.full((B,), 0.5))
        own = net(h, graph, rigid, time)
        none = net(h, graph, rigid, time, clean=true, clean_weight=torch.zeros(B))
    first, middle, current = seen[:3], seen[3:6], seen[6:9]
    for one in first:  # the clean ellipsoids in every block; the frame of the network may have mirrored them
        assert torch.equal(one.scaling_log, true.scaling_log)
        assert torch.allclose(one.local_mean.abs(), true.local_mean.abs())
    assert torch.equal(current[0].scaling_log, rigid.scaling_log)
    assert not torch.equal(current[1].scaling_log, rigid.scaling_log)  # denoised on the way
    assert torch.allclose(middle[0].scaling_log, (rigid.scaling_log + true.scaling_log) / 2)
    assert not torch.equal(first[1].translation, first[0].translation)  # poses are the updated ones
    # what is denoised starts from the corrupted Gaussians
    assert not torch.allclose(out.rigid.scaling_log, true.scaling_log, atol=0.05)
    assert not torch.allclose(out.rigid.translation, own.rigid.translation, atol=1e-4)
    assert not torch.allclose(out.rigid.translation, half.rigid.translation, atol=1e-4)
    close(none.rigid, own.rigid)


def test_update_from_zero_weights_is_none_and_a_mask_holds_cells(d):
    update, rigid, s = GaussianUpdateBlock(config(d), 3), poses(d), torch.randn(B, N, 16)
    vectors, mask = torch.randn(B, N, 3, d), torch.rand(B, N) < 0.5
    close(update(s, rigid, vectors), rigid, 1e-6)
    torch.nn.init.normal_(update.linear.weight)
    with torch.no_grad():
        found = update(s, rigid, vectors, mask)
    for name in ("rotation", "translation", "scaling_log", "local_mean"):
        same = (getattr(found, name) - getattr(rigid, name)).abs().flatten(2).amax(-1) < 1e-6
        assert torch.equal(same, ~mask)
    assert torch.allclose(torch.linalg.det(found.rotation), torch.ones(B, N), atol=1e-5)


def test_poses_alone(d, h, time):
    net, graph = network(d, corrupt_gaussians=False), graph_of(cosine_candidates(h, K))
    start = noise_poses((B, N), net.config, torch.Generator().manual_seed(0))
    assert (start.scaling_log == net.config.units.scaling_centre).all()
    with torch.no_grad():
        out = net(h, graph, start, time).rigid
    assert torch.equal(out.scaling_log, start.scaling_log)
    assert torch.equal(out.local_mean.abs(), start.local_mean.abs())
    assert not torch.equal(out.translation, start.translation)


def test_noise_has_the_units_of_clean_poses(d):
    settings = config(d)
    noise = noise_poses((4, 5000), settings, torch.Generator().manual_seed(0))
    assert noise.translation.mean(1).abs().max() < 1e-5
    assert noise.translation.square().sum(-1).mean().sqrt().item() == pytest.approx(1, abs=0.02)
    assert noise.scaling_log.mean().item() == pytest.approx(settings.units.scaling_centre, abs=0.02)
    assert noise.scaling_log.std().item() == pytest.approx(settings.units.scaling_spread, abs=0.02)
    assert noise.local_mean.std().item() == pytest.approx(settings.units.offset, abs=0.002)
    again = noise_poses((4, 5000), settings, torch.Generator().manual_seed(0))
    assert torch.equal(again.translation, noise.translation)


def test_the_flow_of_an_oracle_ends_at_the_truth_along_a_geodesic(d):
    start, truth = poses(d), poses(d)

    class Knows:
        def denoise(self, condition, rigid, time, clean=None):
            seen.append(rotation_log(start.rotation.mT @ rigid.rotation).norm(dim=-1))
            return type("Out", (), {"rigid": truth})

    for n_steps in (1, 2, 7):
        seen = []
        close(follow_flow(Knows(), None, start, n_steps), truth, 1e-4)
        whole = rotation_log(start.rotation.mT @ truth.rotation).norm(dim=-1)
        for step, angle in enumerate(seen):
            assert torch.allclose(angle, step / n_steps * whole, atol=1e-3)


def test_gradients_are_finite_from_noise(d, h, time):
    net = network(d)
    start = noise_poses((B, N), net.config, torch.Generator().manual_seed(0))
    out = net(h, graph_of(cosine_candidates(h, K)), start, time).rigid
    out.to_vector().square().sum().backward()
    missing = [
        name
        for name, p in net.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_dims": 4}, "n_dims must be 2 or 3, found 4"),
        ({"attention_geometry": "dirty"}, "must be one of .*'curriculum'.*found 'dirty'"),
        ({"scale_min": 0.0}, "0 < scale_min < scale_max, found n_blocks=3, scale_min=0.0"),
        ({"n_blocks": 0}, "n_blocks must be at least 1"),
    ],
)
def test_settings_that_are_not_possible(wrong, message):
    with pytest.raises(ValueError, match=message):
        IGAConfig(**wrong)
    assert IGAConfig.from_dict(IGAConfig(n_dims=3).to_dict()) == IGAConfig(n_dims=3)
