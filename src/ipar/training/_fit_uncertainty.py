"""Fitting the expected error of a cell on training slides whose coordinates their encoders never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge

from ipar.metrics import cell_errors, certain_half_error, uncertainty_spearman
from ipar.model._consensus import principal_layout
from ipar.model._uncertainty import FloatArray, UncertaintyHead, head_input, joint_sign

# chosen by leaving out one of six brain sections in turn; half or twice of each changes the rank correlation by 0.02
_N_COMPONENTS = 24
_COMPONENT_SCALE = 2.0  # of the first component, where a sign of trouble has 1
_N_LANDMARKS = 300
_GAMMA, _ALPHA = 0.01, 1.5
_N_KNOTS = 20


@dataclass(frozen=True)
class UncertaintyFit:
    """A fitted head and how well it does on slides left out.

    Attributes
    ----------
    head
        Fitted on all slides.
    spearman
        Rank correlation of expected and true errors, mean over training slides left out of the fit of the head.
    certain_half
        Mean error of the half of the cells that is most certain over that of all, the same mean.
    values
        What the head's map to errors is applied to, of every slide as a head has it that was fitted without that slide.
    """

    head: UncertaintyHead
    spearman: float
    certain_half: float
    values: list[FloatArray]


def fit_uncertainty(
    embeddings: Sequence[NDArray[np.float32]],
    far: Sequence[NDArray[np.float32]],
    coords: Sequence[NDArray[np.float32]],
    *,
    random_state: int = 0,
) -> UncertaintyFit:
    """Learn from the errors of the overview, which needs no network that has seen the slides.

    Parameters
    ----------
    embeddings, far, coords
        Cross-fitted embeddings and what tells distances across the slide ``(n_s, d)``, of which the first two principal
        components are the overview, and coordinates ``(n_s, 2)`` of the training slides, at least two.
    random_state
        Seed of the landmarks.
    """
    pca = PCA(min(_N_COMPONENTS, embeddings[0].shape[1])).fit(np.concatenate(embeddings))
    first = max(float(pca.explained_variance_[0]), float(np.finfo(np.float32).tiny))
    scale = _COMPONENT_SCALE / first**0.5
    centre, axes = pca.mean_.astype(np.float64), pca.components_.T.astype(np.float64) * scale
    inputs = [head_input(h, f, centre, axes) for h, f in zip(embeddings, far, strict=True)]
    errors = [_overview_errors(f, x) for f, x in zip(far, coords, strict=True)]
    values = []
    for i in range(len(inputs)):
        others = [j for j in range(len(inputs)) if j != i]
        machine = _regress([inputs[j] for j in others], [errors[j] for j in others], random_state)
        values.append(_value(machine, inputs[i]))
    nystroem, ridge = _regress(inputs, errors, random_state)
    head = UncertaintyHead(
        centre=centre,
        axes=axes,
        landmarks=np.asarray(nystroem.components_, dtype=np.float64),
        weights=np.asarray(nystroem.normalization_.T @ ridge.coef_, dtype=np.float64),
        intercept=float(ridge.intercept_),
        gamma=_GAMMA,
        knots=_knots(values, errors),
    )
    pairs = list(zip(errors, values, strict=True))
    return UncertaintyFit(
        head,
        spearman=float(np.mean([uncertainty_spearman(error, value) for error, value in pairs])),
        certain_half=float(np.mean([certain_half_error(error, value) for error, value in pairs])),
        values=values,
    )


def beside_samples(
    head: UncertaintyHead,
    value: FloatArray,
    spread: NDArray[np.float32],
    layout: NDArray[np.float32],
    coords: NDArray[np.float32],
) -> tuple[UncertaintyHead, dict[str, float]]:
    """The head for a model with a flow, and how its signs rank errors of the finished left-out slide.

    Parameters
    ----------
    head
        The head by itself.
    value, spread
        Its value where it was fitted without the slide, and that of samples of a flow that has not seen it, ``(n,)``.
    layout, coords
        The slide as it was finished, and the truth, ``(n, 2)``.
    """
    errors, sign = cell_errors(coords, layout), joint_sign(value, spread)
    ranks = {
        "uncertainty_spearman": uncertainty_spearman(errors, sign),
        "certain_half_error": certain_half_error(errors, sign),
    }
    return replace(head, joint=_knots([sign], [errors])), ranks


def scaled_to(
    head: UncertaintyHead, far: NDArray[np.float32], layout: NDArray[np.float32], coords: NDArray[np.float32]
) -> UncertaintyHead:
    """The head for finished layouts: errors in proportion to those of the finished left-out slide over its overview's."""
    ratio = float(cell_errors(coords, layout).mean() / max(_overview_errors(far, coords).mean(), 1e-12))
    return replace(head, knots=head.knots * np.array([[1.0], [ratio]]))


def _overview_errors(far: NDArray[np.float32], coords: NDArray[np.float32]) -> FloatArray:
    return cell_errors(coords, principal_layout(torch.from_numpy(np.ascontiguousarray(far, dtype=np.float32))).numpy())


def _regress(inputs: Sequence[FloatArray], errors: Sequence[FloatArray], random_state: int) -> tuple[Nystroem, Ridge]:
    """Errors standardised slide by slide: which slides are hard as a whole is another question."""
    z = np.concatenate(inputs)
    y = np.concatenate([(error - error.mean()) / max(float(error.std()), 1e-12) for error in errors])
    nystroem = Nystroem(gamma=_GAMMA, n_components=min(_N_LANDMARKS, len(z)), random_state=random_state).fit(z)
    return nystroem, Ridge(_ALPHA).fit(nystroem.transform(z), y)


def _value(machine: tuple[Nystroem, Ridge], z: FloatArray) -> FloatArray:
    nystroem, ridge = machine
    value: FloatArray = ridge.predict(nystroem.transform(z))
    return value


def _knots(values: Sequence[FloatArray], errors: Sequence[FloatArray]) -> FloatArray:
    """Mean error of cells of like value, made monotone, ``(2, q)``: the shape from within slides, the level from all."""
    level = float(np.mean([error.mean() for error in errors]))
    relative = np.concatenate([error / max(float(error.mean()), 1e-12) for error in errors])
    value = np.concatenate(values)
    bins = np.array_split(np.argsort(value, kind="stable"), min(_N_KNOTS, len(value)))
    x = np.array([value[cells].mean() for cells in bins])
    y = level * np.array([relative[cells].mean() for cells in bins])
    return np.stack([x, IsotonicRegression().fit_transform(x, y)])
