"""Networks of the benchmark's controls."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.arrays import Rows
from ipar.baselines.inputs import FloatArray, principal_components, unit_scale
from ipar.geometry import gauge_fix
from ipar.nn import SharedEncoder

_N_COMPONENTS = 200
_FEW_CELLS, _MOST_TIMES = 2500, 3.0


@dataclass(frozen=True)
class Regression:
    """How a regressor of coordinates is trained; the same network and dropout as the distance embedding's."""

    n_steps: int = 400
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    hidden: int = 256
    input_dropout: float = 0.5
    dropout: float = 0.3

    def for_cells(self, n_cells: int) -> Regression:
        """The same, up to three times as long where there are more than 2,500 training cells."""
        return replace(self, n_steps=round(self.n_steps * min(max(n_cells / _FEW_CELLS, 1.0), _MOST_TIMES)))


def regress_coords(
    x: FloatArray, coords: FloatArray, query: FloatArray, *, seed: int, recipe: Regression | None = None
) -> FloatArray:
    """Coordinates from centred expression: the mean of a network on principal components and one on genes.

    Returns positions of the query cells, ``(n_query, 2)``, in the frame of ``coords``.
    """
    recipe = recipe or Regression()
    inputs = (principal_components(x, query, _N_COMPONENTS, seed=seed), unit_scale(x, query))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        members = [_regressor(*features, coords, recipe) for features in inputs]
    mean: FloatArray = np.mean(members, axis=0)
    return mean


def _regressor(x: FloatArray, query: FloatArray, coords: FloatArray, recipe: Regression) -> FloatArray:
    network = SharedEncoder(
        x.shape[1],
        hidden=(recipe.hidden,),
        n_output=2,
        input_dropout=recipe.input_dropout,
        dropout=recipe.dropout,
    )
    features, target = torch.from_numpy(x), torch.from_numpy(coords)
    optimiser, schedule = _optimiser(network, recipe.lr, recipe.weight_decay, recipe.n_steps)
    network.train()
    for _ in range(recipe.n_steps):
        pick = torch.randint(len(features), (min(recipe.batch_size, len(features)),))
        loss = nn.functional.mse_loss(network(features[pick]), target[pick])
        _step(network, optimiser, schedule, loss)
    network.eval()
    with torch.no_grad():
        predicted: FloatArray = network(torch.from_numpy(query)).numpy()
    return predicted


@dataclass(frozen=True)
class SetTransformerConfig:
    """Shape and training of the set transformer.

    Attributes
    ----------
    width, n_layers, n_heads, dropout
        Of the encoder layers, pre-norm, feed-forward twice as wide.
    n_components
        Principal components per token.
    n_steps, batch_size
        Steps, and minisets of a step.
    set_size
        Smallest and largest miniset.
    """

    width: int = 128
    n_layers: int = 4
    n_heads: int = 4
    dropout: float = 0.1
    n_components: int = 50
    n_steps: int = 500
    batch_size: int = 4
    set_size: tuple[int, int] = (96, 384)
    lr: float = 5e-4
    weight_decay: float = 1e-2
    input_noise: float = 0.3


class SetTransformer(nn.Module):
    """Positions of a set of cells from their tokens, by full attention: ``(B, n, d)`` to ``(B, n, 2)``, gauge-fixed."""

    def __init__(self, n_input: int, config: SetTransformerConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.n_heads,
            dim_feedforward=2 * config.width,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.read = nn.Linear(n_input, config.width)
        self.layers = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)
        self.place = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, 2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Lay out sets of cells."""
        return gauge_fix(self.place(self.layers(self.read(tokens))))


def fit_set_transformer(
    x: FloatArray, coords: FloatArray, slides: Rows, query: FloatArray, *, seed: int, config: SetTransformerConfig
) -> FloatArray:
    """Train on minisets by pairwise distances, then lay out the whole query at once, ``(n_query, 2)``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        network = SetTransformer(x.shape[1], config)
        _train_sets(network, torch.from_numpy(x), torch.from_numpy(coords), slides, config, rng)
    with torch.no_grad():
        layout: FloatArray = network(torch.from_numpy(query)[None])[0].numpy()
    return layout


def _train_sets(
    network: SetTransformer,
    x: Tensor,
    coords: Tensor,
    slides: Rows,
    config: SetTransformerConfig,
    rng: np.random.Generator,
) -> None:
    optimiser, schedule = _optimiser(network, config.lr, config.weight_decay, config.n_steps)
    smallest = min(len(rows) for rows in slides)
    network.train()
    for _ in range(config.n_steps):
        size = min(int(rng.integers(config.set_size[0], config.set_size[1] + 1)), smallest)
        chosen = rng.integers(len(slides), size=config.batch_size)
        pick = torch.from_numpy(np.stack([rng.choice(slides[i], size=size, replace=False) for i in chosen]))
        tokens = x[pick] + config.input_noise * torch.randn(*pick.shape, x.shape[1])
        predicted, true = network(tokens), gauge_fix(coords[pick])
        loss = torch.stack(
            [(torch.pdist(a) - torch.pdist(b)).square().mean() for a, b in zip(predicted, true, strict=True)]
        )
        _step(network, optimiser, schedule, loss.mean())
    network.eval()


def _optimiser(
    network: nn.Module, lr: float, weight_decay: float, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=n_steps, pct_start=0.1)


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: Tensor
) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    schedule.step()
