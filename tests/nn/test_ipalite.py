from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from ipar.geometry import gauge_fix
from ipar.nn import IPALiteConfig, IPALiteNet
from ipar.nn import block as _block
from ipar.nn import ipalite as _ipalite
from ipar.nn.graph import CandidateGraph

SMALL = IPALiteConfig(d_input=7, d_state=10, n_heads=3, d_head=5, n_recycles=3)
N = 17


def randomised(config=SMALL):
    """A float64 network none of whose weights is zero or neutral."""
    net = IPALiteNet(config).double().eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            scale = 0.3 if "step" in name else 1.0 if p.ndim < 2 else 1.5 / np.sqrt(p.shape[-1])
            p.copy_(scale * torch.randn_like(p))
    return net


def inputs(n=N, batch=1, share=0.5):
    h, gate = torch.randn(batch, n, SMALL.d_input), torch.randn(batch, n, n)
    candidates = (torch.rand(batch, n, n) < share) & ~torch.eye(n, dtype=torch.bool)
    candidates[:, 2] = False
    return h.double(), candidates, gate.double()


def permuted(pairs, order):
    return pairs[:, order][:, :, order]


# an independent formulation of the network: numpy, one cell, head and neighbour at a time


def linear(state, name, x):
    bias = state.get(f"{name}.bias")
    return state[f"{name}.weight"] @ x + (0 if bias is None else bias)


def mlp(state, name, x):
    hidden = linear(state, f"{name}.0", x)
    return linear(state, f"{name}.2", hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))))


def layer_norm(state, name, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def gauge(x):
    x = x - x.mean(axis=0)
    return x / np.sqrt(np.mean(x[:, 0] ** 2 + x[:, 1] ** 2))


def reference(net, h, candidates, gate, beta):
    state = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    config, n = net.config, len(h)
    s = np.stack([mlp(state, "state_input", row) for row in h])
    x = gauge(np.stack([mlp(state, "coord_input", row) for row in h]))
    layouts, attentions = [x], []
    for _ in range(config.n_recycles):
        a = np.zeros((config.n_heads, n, n))
        moved, updated = x.copy(), s.copy()
        for i in range(n):
            message = []
            for head in range(config.n_heads):
                own = slice(head * config.d_head, (head + 1) * config.d_head)
                q, k, v = (
                    np.stack([linear(state, f"blocks.0.{part}", row)[own] for row in s])
                    for part in ("query", "key", "value")
                )
                allowed = np.flatnonzero(candidates[i])
                logits = []
                for j in allowed:
                    logit = q[i] @ k[j] / np.sqrt(config.d_head) + beta * gate[i, j]
                    if config.geometry == "clamped":
                        strength = np.log1p(np.exp(state["blocks.0.geometry.gamma"][head]))
                        logit += max(-strength * np.sum((x[i] - x[j]) ** 2), -10.0)
                    logits.append(logit)
                if len(allowed):
                    a[head, i, allowed] = softmax(logits)
                for j in range(n):
                    moved[i] += a[head, i, j] * state["blocks.0.step"][head] @ (x[j] - x[i])
                message.append(sum(a[head, i, j] * v[j] for j in range(n)))
            joined = np.concatenate([layer_norm(state, "blocks.0.norm", s[i]), *message])
            updated[i] = s[i] + mlp(state, "blocks.0.update", joined)
        s, x = updated, gauge(moved)
        layouts.append(x)
        attentions.append(a)
    return np.stack(layouts), np.stack(attentions)


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_network_against_loops(geometry):
    net = randomised(replace(SMALL, geometry=geometry))
    with torch.no_grad():
        net.blocks[0].geometry.gamma += 3.0  # strong enough for the clamp to be reached
    h, candidates, gate = inputs()
    out = net(h, candidates, gate, beta=0.7, return_attention=True)
    layouts, attention = reference(net, h[0].numpy(), candidates[0].numpy(), gate[0].numpy(), 0.7)
    assert np.allclose(out.layouts[:, 0].detach(), layouts, atol=1e-10)
    assert np.allclose(out.attention[:, 0].detach(), attention, atol=1e-10)
    assert np.abs(np.diff(layouts, axis=0)).max() > 0.1


def test_single_precision_is_close():
    net, (h, candidates, gate) = randomised(), inputs()
    exact = net(h, candidates, gate).layouts
    assert torch.allclose(net.float()(h.float(), candidates, gate.float()).layouts.double(), exact, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (IPALiteConfig.v1(), 154_678),
        (IPALiteConfig.v1(n_recycles=1), 154_678),
        (IPALiteConfig.v1(geometry="clamped"), 154_678),
        (IPALiteConfig.v1(d_input=64), 136_246),
        (IPALiteConfig.v1(d_input=64, d_state=64), 78_550),
    ],
)
def test_parameters(config, count):
    assert sum(p.numel() for p in IPALiteNet(config).parameters()) == count


def test_config_survives_json_and_is_the_design():
    config = IPALiteConfig.v1(d_input=64, geometry="clamped")
    assert IPALiteConfig(**json.loads(json.dumps(config.to_dict()))) == config
    default = IPALiteNet().config
    assert (default.n_recycles, default.beta, default.coord_noise, default.geometry) == (5, 2.0, 0.05, "none")


def test_a_fresh_network_stands_still_but_can_learn_to_move():
    net = IPALiteNet(SMALL).eval()
    h, candidates, gate = (t.float() if t.is_floating_point() else t for t in inputs())
    out = net(h, candidates, gate)
    assert out.layouts.shape == (4, 1, N, 2)
    assert torch.allclose(out.layouts, out.layouts[:1].expand_as(out.layouts), atol=1e-5)
    (out.coords - torch.randn(N, 2)).square().sum().backward()
    assert net.blocks[0].step.grad.abs().min() > 0
    assert torch.allclose(torch.nn.functional.softplus(net.blocks[0].geometry.gamma), torch.ones(3))


def test_every_layout_is_gauge_fixed():
    layouts = randomised()(*inputs(batch=2)).layouts.detach()
    assert torch.allclose(layouts.mean(-2), torch.zeros(4, 2, 2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(layouts.square().sum(-1).mean(-1), torch.ones(4, 2, dtype=torch.float64))


def test_recycles_share_their_weights():
    net, arguments = randomised(replace(SMALL, n_recycles=6)), inputs()
    fewer = IPALiteNet(SMALL).double().eval()
    fewer.load_state_dict(net.state_dict())
    assert torch.allclose(fewer(*arguments).layouts, net(*arguments).layouts[:4])


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_permutation_equivariance(geometry):
    net, (h, candidates, gate) = randomised(replace(SMALL, geometry=geometry)), inputs(batch=2)
    out, order = net(h, candidates, gate, return_attention=True), torch.randperm(N)
    other = net(h[:, order], permuted(candidates, order), permuted(gate, order), return_attention=True)
    assert torch.allclose(other.layouts, out.layouts[:, :, order], atol=1e-10)
    assert torch.allclose(other.attention, out.attention[..., order, :][..., order], atol=1e-10)


def run_block(net, s, x, candidates, gate):
    block, given = net.blocks[0], _block.Inputs(CandidateGraph(candidates), None, gate, None)
    bias = _ipalite.attention_bias(candidates, gate, 1.0, s.dtype)
    attended, attention = block.attend(s, x, given, bias, None, geometry=net.config.has_geometry(0))
    return *block.move(s, x, attended, given, None), attention


def states_and_layout():
    return torch.randn(1, N, SMALL.d_state, dtype=torch.float64), torch.randn(1, N, 2, dtype=torch.float64)


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_block_carries_a_translation_through(geometry, monkeypatch):
    net, (_, candidates, gate) = randomised(replace(SMALL, geometry=geometry)), inputs()
    s, x = states_and_layout()
    shift = torch.tensor([30.0, -4.0], dtype=torch.float64)
    fixed = run_block(net, s, x, candidates, gate)
    for a, b in zip(run_block(net, s, x + shift, candidates, gate), fixed, strict=True):
        assert torch.allclose(a, b, atol=1e-9)  # states and attention are invariant, the gauge takes the shift away
    monkeypatch.setattr(_block, "gauge_fix", lambda y, mask=None: y)
    _, raw, _ = run_block(net, s, x, candidates, gate)
    assert torch.allclose(run_block(net, s, x + shift, candidates, gate)[1], raw + shift, atol=1e-9)
    assert torch.allclose(gauge_fix(raw), fixed[1], atol=1e-12)


@pytest.mark.parametrize("geometry", ["none", "clamped"])
@pytest.mark.parametrize("reflect", [False, True])
def test_block_turns_with_its_frame(geometry, reflect):
    # the step matrices live in the frame of X: turning both turns the result, whatever the matrices
    net, (_, candidates, gate) = randomised(replace(SMALL, geometry=geometry)), inputs()
    s, x = states_and_layout()
    c, sine = np.cos(0.8), np.sin(0.8)
    turn = torch.tensor([[c, -sine], [sine, c]], dtype=torch.float64) @ torch.diag(
        torch.tensor([1.0, -1.0 if reflect else 1.0], dtype=torch.float64)
    )
    state, layout, attention = run_block(net, s, x, candidates, gate)
    with torch.no_grad():
        net.blocks[0].step.copy_(turn @ net.blocks[0].step @ turn.T)
    turned = run_block(net, s, x @ turn.T, candidates, gate)
    assert torch.allclose(turned[0], state, atol=1e-10)
    assert torch.allclose(turned[1], layout @ turn.T, atol=1e-10)
    assert torch.allclose(turned[2], attention, atol=1e-10)


def test_steps_that_only_turn_and_scale_are_rotation_equivariant():
    net, (_, candidates, gate) = randomised(), inputs()
    with torch.no_grad():
        a, b = torch.randn(2, 3)
        net.blocks[0].step.copy_(torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2))
    s, x = states_and_layout()
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0]
    turn[:, 0] *= torch.linalg.det(turn)  # a rotation
    _, layout, _ = run_block(net, s, x, candidates, gate)
    assert torch.allclose(run_block(net, s, x @ turn.T, candidates, gate)[1], layout @ turn.T, atol=1e-10)


def test_scale_of_the_layout_is_no_matter_without_geometry():
    net, (_, candidates, gate) = randomised(), inputs()
    s, x = states_and_layout()
    for a, b in zip(run_block(net, s, 40 * x, candidates, gate), run_block(net, s, x, candidates, gate), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_gate_scores_off_the_candidates_change_nothing():
    net, (h, candidates, gate) = randomised(), inputs()
    out = net(h, candidates, gate).layouts
    assert torch.equal(net(h, candidates, gate.masked_fill(~candidates, 1e5)).layouts, out)
    assert torch.equal(net(h, candidates, gate, beta=0.0).layouts, net(h, candidates).layouts)
    assert torch.equal(net(h, candidates, gate, beta=SMALL.beta).layouts, out)
    assert not torch.allclose(net(h, candidates, gate, beta=0.0).layouts, out, atol=0.01)


def test_a_cell_that_nobody_attends_to_moves_no_other():
    # all that may reach the others is the common gauge: a shift and a scale
    net, (h, candidates, gate) = randomised(), inputs()
    candidates[:, :, 5] = False
    out = net(h, candidates, gate, return_attention=True)
    h[:, 5] += 2.0
    other = net(h, candidates, gate, return_attention=True)
    rest = torch.arange(N) != 5
    assert torch.allclose(other.attention[..., rest, :], out.attention[..., rest, :], atol=1e-10)
    assert not torch.allclose(other.layouts[:, :, 5], out.layouts[:, :, 5], atol=1e-3)
    assert torch.allclose(gauge_fix(other.layouts[:, :, rest]), gauge_fix(out.layouts[:, :, rest]), atol=1e-9)


def test_slides_without_common_candidates_do_not_leak():
    net, first, second = randomised(), inputs(N), inputs(11)
    h = torch.cat([first[0], second[0]], dim=1)
    candidates = torch.block_diag(first[1][0].double(), second[1][0].double())[None].bool()
    gate = torch.block_diag(first[2][0], second[2][0])[None]
    joint = net(h, candidates, gate, return_attention=True)
    for part, where in ((first, slice(0, N)), (second, slice(N, N + 11))):
        alone = net(*part, return_attention=True)
        assert torch.allclose(joint.attention[..., where, where], alone.attention, atol=1e-10)
        assert torch.allclose(gauge_fix(joint.layouts[:, :, where]), alone.layouts, atol=1e-9)


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_padding_changes_nothing(geometry):
    net, sizes = randomised(replace(SMALL, geometry=geometry)), [N, 11, 5]
    sets = [inputs(n) for n in sizes]
    h, gate = 50 * torch.randn(3, N, SMALL.d_input).double(), 50 * torch.randn(3, N, N).double()
    candidates, mask = torch.zeros(3, N, N, dtype=torch.bool), torch.arange(N) < torch.tensor(sizes)[:, None]
    for i, (n, (one_h, one_candidates, one_gate)) in enumerate(zip(sizes, sets, strict=True)):
        h[i, :n], candidates[i, :n, :n], gate[i, :n, :n] = one_h[0], one_candidates[0], one_gate[0]
    out = net(h, candidates, gate, mask=mask, return_attention=True)
    for i, (n, one) in enumerate(zip(sizes, sets, strict=True)):
        alone = net(*one, return_attention=True)
        assert torch.allclose(out.layouts[:, i, :n], alone.layouts[:, 0], atol=1e-10)
        assert torch.allclose(out.attention[:, i, :, :n, :n], alone.attention[:, 0], atol=1e-10)
        assert (out.layouts[:, i, n:] == 0).all()
        assert (out.attention[:, i, :, n:] == 0).all()


def test_gradients_do_not_feel_padding():
    net, (h, candidates, gate) = randomised(replace(SMALL, geometry="clamped")), inputs()
    target, pad = torch.randn(N, 2, dtype=torch.float64), (0, 4, 0, 4)
    wide = torch.nn.functional.pad(h, (0, 0, 0, 4), value=3.0)
    mask = torch.arange(N + 4)[None] < N
    single = net(h, candidates, gate)
    padded = net(wide, torch.nn.functional.pad(candidates, pad), torch.nn.functional.pad(gate, pad), mask=mask)
    found, expected = (
        torch.autograd.grad(
            (out.coords[:, :N] - target).square().sum(), [p for p in net.parameters() if p.requires_grad]
        )
        for out in (padded, single)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_cells_without_candidates_survive(geometry):
    net = randomised(replace(SMALL, geometry=geometry)).float()
    h, candidates, gate = (t.float() if t.is_floating_point() else t for t in inputs(batch=2))
    candidates[1] = False  # a whole set without any
    gate.requires_grad_()
    h.requires_grad_()
    out = net(h, candidates, gate, return_attention=True)
    assert (out.attention[:, 0, :, 2] == 0).all()
    assert (out.attention[:, 1] == 0).all()
    assert torch.allclose(out.layouts[:, 1], out.layouts[:1, 1].expand(4, -1, -1), atol=1e-5)  # nothing pulls
    (out.coords - torch.randn(N, 2)).square().sum().backward()
    for grad in (h.grad, gate.grad, *(p.grad for p in net.parameters() if p.grad is not None)):
        assert torch.isfinite(grad).all()
    assert h.grad[0, 2].abs().max() > 0


@pytest.mark.parametrize("geometry", ["none", "clamped"])
def test_equal_embeddings_stay_finite(geometry):
    net = randomised(replace(SMALL, geometry=geometry)).float()
    _, candidates, _ = inputs()
    h = torch.ones(1, N, SMALL.d_input, requires_grad=True)  # all points coincide, in every recycle
    out = net(h, candidates)
    assert (out.layouts == 0).all()
    out.coords.sum().backward()
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_sets(n):
    h, candidates, gate = inputs(n) if n > 2 else (torch.randn(1, n, 7).double(), torch.ones(1, n, n).bool(), None)
    assert torch.isfinite(randomised()(h, candidates, gate).layouts).all()


def test_noise_is_for_training_only():
    net, arguments = randomised(), inputs()
    calm = net(*arguments).layouts
    assert torch.equal(net(*arguments).layouts, calm)
    noisy = net.train()(*arguments).layouts
    assert not torch.allclose(noisy, net(*arguments).layouts, atol=1e-3)
    silent = IPALiteNet(replace(SMALL, coord_noise=0.0)).double().train()
    silent.load_state_dict(net.state_dict())
    assert torch.equal(silent(*arguments).layouts, calm)


def test_attention_is_kept_only_where_asked_for():
    net, arguments = randomised(), inputs(batch=2)
    out = net(*arguments)
    assert out.attention is None
    assert torch.equal(out.coords, out.layouts[-1])
    assert net(*arguments, return_attention=True).attention.shape == (3, 2, 3, N, N)
