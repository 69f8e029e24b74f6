from __future__ import annotations

import pytest
import torch
from torch import nn

from ipar.nn import SharedEncoder


def test_default_widths():
    encoder = SharedEncoder(2000)
    widths = [layer.out_features for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    assert widths == [512, 256, 128]
    count = 2000 * 512 + 512 + 512 * 256 + 256 + 256 * 128 + 128
    assert sum(p.numel() for p in encoder.parameters()) == count
    assert encoder(torch.randn(7, 2000)).shape == (7, 128)


@pytest.mark.parametrize("hidden", [(), (9,), (12, 8, 5)])
def test_other_widths(hidden):
    encoder = SharedEncoder(20, hidden=hidden, n_output=3).eval()
    assert encoder(torch.randn(4, 20)).shape == (4, 3)
    x, shift = torch.randn(2, 4, 20)
    linear = torch.allclose(encoder(x + shift) - encoder(shift), encoder(x) - encoder(torch.zeros(4, 20)), atol=1e-5)
    assert linear == (not hidden)


def test_cells_are_embedded_one_by_one():
    encoder, x = SharedEncoder(50, hidden=(16,), n_output=4, input_dropout=0.5, dropout=0.3).eval(), torch.randn(9, 50)
    together = encoder(x)
    assert torch.equal(encoder(x), together)
    assert all(torch.allclose(encoder(x[i : i + 1])[0], together[i], atol=1e-6) for i in range(9))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_input_dropout_drops_its_share_and_keeps_the_mean(share):
    encoder = SharedEncoder(1000, hidden=(), n_output=1000, input_dropout=share).train()
    with torch.no_grad():
        encoder.net[-1].weight.copy_(torch.eye(1000))
        encoder.net[-1].bias.zero_()
        seen = encoder(torch.ones(301, 1000))  # an odd number of rows
    dropped = seen == 0
    assert dropped.float().mean().item() == pytest.approx(share, abs=5e-3)
    assert seen.mean().item() == pytest.approx(1.0, abs=0.02)
    assert seen[~dropped].std() < 1e-6
    # independent from entry to entry and from cell to cell
    for a, b in ((dropped[:, :-1], dropped[:, 1:]), (dropped[:-1], dropped[1:])):
        assert (a & b).float().mean().item() == pytest.approx(share**2, abs=0.01)


def test_dropout_is_for_training_only():
    x = torch.randn(5, 40)
    for option in ("input_dropout", "dropout"):
        encoder = SharedEncoder(40, hidden=(30,), n_output=6, **{option: 0.5})
        assert not torch.allclose(encoder.train()(x), encoder(x), atol=1e-3)
        assert torch.equal(encoder.eval()(x), encoder(x))
    plain = SharedEncoder(40, hidden=(30,), n_output=6)
    assert torch.equal(plain.train()(x), plain.eval()(x))
