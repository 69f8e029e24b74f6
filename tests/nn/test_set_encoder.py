from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from ipar.nn import SetEncoder

N, D = 13, 5


@pytest.fixture
def network():
    return SetEncoder(D, width=8, n_layers=2, n_heads=2, n_output=3).double().eval()


@pytest.fixture
def cells():
    return torch.randn(1, N, D, dtype=torch.float64)


def reference(network, x, context):
    """The network in numpy, one cell and head at a time."""
    state = {name: value.detach().numpy() for name, value in network.state_dict().items()}

    def linear(name, y):
        return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, y):
        scaled = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = linear("read", x)
    for layer in ("layers.0", "layers.1"):
        normed = norm(f"{layer}.norm", x)
        query, both = linear(f"{layer}.query", normed), linear(f"{layer}.key_value", normed[context])
        key, value = both[:, :8], both[:, 8:]
        found = np.zeros_like(query)
        for i in range(len(x)):
            for head in (slice(0, 4), slice(4, 8)):
                weights = softmax([query[i, head] @ k[head] / np.sqrt(4) for k in key])
                found[i, head] = sum(w * v[head] for w, v in zip(weights, value, strict=True))
        x = x + linear(f"{layer}.merge", found)
        hidden = linear(f"{layer}.update.0", norm(f"{layer}.norm_update", x))
        x = x + linear(f"{layer}.update.3", hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))))
    return linear("write.1", norm("write.0", x))


@pytest.mark.parametrize("context", [None, [0, 3, 7]])
def test_network_against_loops(network, cells, context):
    found = network(cells, None if context is None else torch.tensor(context))[0].detach().numpy()
    np.testing.assert_allclose(found, reference(network, cells[0].numpy(), context or list(range(N))), atol=1e-10)


def test_order_does_not_matter_and_everything_as_context_is_none(network, cells):
    order = torch.randperm(N)
    expected = network(cells)[:, order]
    torch.testing.assert_close(network(cells[:, order]), expected)
    torch.testing.assert_close(network(cells, torch.arange(N))[:, order], expected)


def test_only_the_context_is_seen_by_others(network, cells):
    context = torch.tensor([1, 4, 9])
    changed = cells.clone()
    changed[:, 6] += 3.0
    found, expected = network(changed, context), network(cells, context)
    others = torch.arange(N) != 6
    torch.testing.assert_close(found[:, others], expected[:, others])
    assert not torch.allclose(network(changed)[:, others], network(cells)[:, others], atol=1e-3)
