"""Networks of the benchmark's controls, and the frame that the training slides are brought into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from ipar.baselines._checks import FloatArray
from ipar.baselines._features import principal_components, unit_scale
from ipar.geometry import gauge_fix
from ipar.metrics import procrustes_align
from ipar.nn import SharedEncoder

Rows = list[NDArray[np.intp]]

_N_COMPONENTS = 200
_FRAME_ROUNDS = 5


# ---------------------------------------------------------------- coordinates regressed from expression


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


# ---------------------------------------------------------------- one frame for slides without correspondences


def common_frame(x: FloatArray, coords: FloatArray, slides: Rows) -> FloatArray:
    """Turn and mirror the training slides so that like expression lies in like places.

    Sections share no points to align on, so predictions stand in for them: a ridge regression learns coordinates from
    the slides already placed, and the next slide is turned onto its own prediction, the one that fits best first; then
    every slide in turn is turned onto what the others predict for it. Every slide is tried as the start, and the frame
    in which slides predict each other best is kept.

    Parameters
    ----------
    x
        Features of all training cells, ``(n, d)``; about 50 principal components.
    coords
        Gauge-fixed coordinates, slide by slide in frames of their own, ``(n, 2)``.
    slides
        Rows of every slide.

    Returns
    -------
    Coordinates in one frame, ``(n, 2)``.
    """
    frames = [_frame_from(start, x, coords, slides) for start in range(len(slides))]
    return max(frames, key=lambda frame: frame[0])[1]


def _frame_from(start: int, x: FloatArray, coords: FloatArray, slides: Rows) -> tuple[float, FloatArray]:
    placed = coords.copy()
    done, waiting = [start], [i for i in range(len(slides)) if i != start]
    while waiting:
        turns = {i: _turned(x, placed, [slides[j] for j in done], slides[i]) for i in waiting}
        best = min(turns, key=lambda i: turns[i][0])
        placed[slides[best]] = turns[best][1]
        done.append(best)
        waiting.remove(best)
    residuals = [0.0]
    for _ in range(_FRAME_ROUNDS if len(slides) > 1 else 0):
        residuals = []
        for i, rows in enumerate(slides):
            residual, placed[rows] = _turned(x, placed, [other for j, other in enumerate(slides) if j != i], rows)
            residuals.append(residual)
    return -float(np.mean(residuals)), placed


def _turned(x: FloatArray, placed: FloatArray, known: Rows, rows: NDArray[np.intp]) -> tuple[float, FloatArray]:
    """A slide turned onto its prediction from others, and how badly it then fits (mean squared error)."""
    train = np.concatenate(known)
    predicted = Ridge(alpha=float(len(train)) * 0.01).fit(x[train], placed[train]).predict(x[rows])
    left, _, right = np.linalg.svd(placed[rows].T @ predicted)
    turned = placed[rows] @ (left @ right)
    return float(np.square(turned - predicted).mean()), turned


def align_by_labels(coords: FloatArray, labels: NDArray[np.str_], slides: Rows) -> FloatArray:
    """Bring slides into the frame of the first by Procrustes on the centroids of the labels they share."""
    placed = coords.copy()
    reference = label_centroids(coords[slides[0]], labels[slides[0]])
    for rows in slides[1:]:
        own = label_centroids(coords[rows], labels[rows])
        shared = sorted(set(own) & set(reference))
        if len(shared) >= 4:
            target = np.array([reference[name] for name in shared])
            moved = procrustes_align(target, np.array([own[name] for name in shared]))
            placed[rows] = _carry(np.array([own[name] for name in shared]), moved, coords[rows])
    return placed


def label_centroids(coords: FloatArray, labels: NDArray[np.str_]) -> dict[str, FloatArray]:
    """Mean position of every label."""
    return {str(name): coords[labels == name].mean(axis=0) for name in np.unique(labels)}


def _carry(source: FloatArray, moved: FloatArray, points: FloatArray) -> FloatArray:
    """Apply to points the similarity that took ``source`` to ``moved``."""
    a, b = (np.column_stack([z, np.ones(len(z))]) for z in (source, points))
    solution = np.linalg.lstsq(a, moved, rcond=None)[0]
    carried: FloatArray = (b @ solution).astype(np.float32)
    return carried


# ---------------------------------------------------------------- set transformer


@dataclass(frozen=True)
class SetTransformerConfig:
    """Shape and training of the set transformer.

    Attributes
    ----------
    width, n_layers, n_heads, dropout
        Of the encoder layers, pre-norm, feed-forward twice as wide.
    n_components
        Principal components a token.
    n_steps, batch_size
        Steps, and minisets of a step.
    set_size
        Cells of a miniset, from and to.
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


# ---------------------------------------------------------------- optimisation


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
