"""Fitting the expected error of a cell on training slides whose coordinates their encoders never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge

from ipar._options import AtLeastFive, Checked, Count, Depth, NonNegative, Positive
from ipar._run import Run
from ipar.metrics import cell_errors, certain_half_error, uncertainty_spearman
from ipar.model import Features
from ipar.model.blend import global_map
from ipar.model.uncertainty import FloatArray, UncertaintyHead, head_input, joint_sign


@dataclass(frozen=True)
class UncertaintyRecipe(Checked):
    r"""How expected errors are fitted.

    Chosen by leaving out one of six brain sections in turn; half or twice of each changes the rank correlation by 0.02.

    Attributes
    ----------
    n_components, component_scale
        Principal components of the embedding that are read, and the size of the first, where a sign of trouble has 1.
    n_landmarks, gamma, alpha
        Of the kernel ridge regression: landmarks, width of the kernel, penalty.
    n_knots
        Steps of the map from values to errors.
    growth
        What more slides teach: a mean error e, in RMS radii, falls as :math:`e^2 / (1 - e^2) \propto S^{-\text{growth}}`
        with S slides. Left-out slides were seen by encoders of fewer slides than the model's. Measured on brain sections 1
        to 4 with encoders of one to three of them.
    n_samples, most_drawn
        Samples of the flow, and the cells that they are drawn for, see :class:`ipar.model.uncertainty.UncertaintyHead`.
    """

    n_components: Count = 24
    component_scale: float = 2.0
    n_landmarks: Count = 300
    gamma: Positive = 0.01
    alpha: Positive = 1.5
    n_knots: Count = 20
    growth: NonNegative = 0.3
    n_samples: Depth = 16
    most_drawn: AtLeastFive = 1_500

    def with_all_slides(self, error: float, share_known: float) -> float:
        """Error of a model over that of encoders that were taught by a share of its slides alone.

        ``error`` is the mean of these encoders. At a radius and beyond, nothing is learned.
        """
        square = min(error, 1.0) ** 2
        better = square * share_known**self.growth
        return float(np.sqrt(better / (1 - square + better)) / min(error, 1.0))


@dataclass(frozen=True)
class UncertaintyFit:
    """A fitted head and how well it does on held-out slides."""

    head: UncertaintyHead  # fitted on all slides
    spearman: float  # rank correlation of expected and true errors, mean over slides left out of the fit of the head
    certain_half: float  # mean error of the most certain half of the cells over that of all, the same mean
    values: list[FloatArray]  # of every slide, by a head that was fitted without it: before the map to errors


def fit_uncertainty(
    features: Sequence[Features], coords: Sequence[NDArray[np.float32]], recipe: UncertaintyRecipe, run: Run
) -> UncertaintyFit:
    """Learn from the errors of the global map, which needs no network that was trained on the slides.

    Takes cross-fitted features of two training slides or more, and coordinates ``(n_s, 2)``.
    """
    embeddings = [one.embedding for one in features]
    pca = PCA(min(recipe.n_components, embeddings[0].shape[1])).fit(np.concatenate(embeddings))
    first = max(float(pca.explained_variance_[0]), float(np.finfo(np.float32).tiny))
    scale = recipe.component_scale / first**0.5
    centre, axes = pca.mean_.astype(np.float64), pca.components_.T.astype(np.float64) * scale
    inputs = [head_input(one, centre, axes) for one in features]
    errors = [_map_errors(one, x) for one, x in zip(features, coords, strict=True)]
    values = []
    for i in range(len(inputs)):
        others = [j for j in range(len(inputs)) if j != i]
        machine = _regress([inputs[j] for j in others], [errors[j] for j in others], recipe, run)
        values.append(_value(machine, inputs[i]))
    nystroem, ridge = _regress(inputs, errors, recipe, run)
    head = UncertaintyHead(
        centre=centre,
        axes=axes,
        landmarks=np.asarray(nystroem.components_, dtype=np.float64),
        weights=np.asarray(nystroem.normalization_.T @ ridge.coef_, dtype=np.float64),
        intercept=float(ridge.intercept_),
        gamma=recipe.gamma,
        knots=_knots(values, errors, recipe.n_knots),
        n_samples=recipe.n_samples,
        most_drawn=recipe.most_drawn,
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
    recipe: UncertaintyRecipe,
) -> tuple[UncertaintyHead, dict[str, float]]:
    """The head for a model with a flow, and how its signs rank errors of the finished held-out slide.

    Takes the head's value as fitted without the slide, the spread of samples of a flow that was trained without, ``(n,)``
    each, the slide as it was finished, and the truth, ``(n, 2)``.
    """
    errors, sign = cell_errors(coords, layout), joint_sign(value, spread)
    ranks = {
        "uncertainty_spearman": uncertainty_spearman(errors, sign),
        "certain_half_error": certain_half_error(errors, sign),
    }
    return replace(head, joint=_knots([sign], [errors], recipe.n_knots)), ranks


def scaled_to(
    head: UncertaintyHead, features: Features, layout: NDArray[np.float32], coords: NDArray[np.float32]
) -> UncertaintyHead:
    """The head for finished layouts: errors in proportion to those of the finished held-out slide over its global map's."""
    return scaled(head, float(cell_errors(coords, layout).mean() / max(_map_errors(features, coords).mean(), 1e-12)))


def scaled(head: UncertaintyHead, ratio: float) -> UncertaintyHead:
    """The head with all errors times a ratio."""
    by = np.array([[1.0], [ratio]])
    return replace(head, knots=head.knots * by, joint=None if head.joint is None else head.joint * by)


def _map_errors(features: Features, coords: NDArray[np.float32]) -> FloatArray:
    return cell_errors(coords, global_map(features.global_features).numpy())


def _regress(
    inputs: Sequence[FloatArray], errors: Sequence[FloatArray], recipe: UncertaintyRecipe, run: Run
) -> tuple[Nystroem, Ridge]:
    """Errors standardised slide by slide: which slides are hard as a whole is another question."""
    z = np.concatenate(inputs)
    y = np.concatenate([(error - error.mean()) / max(float(error.std()), 1e-12) for error in errors])
    size = min(recipe.n_landmarks, len(z))
    nystroem = Nystroem(gamma=recipe.gamma, n_components=size, random_state=run.seed).fit(z)
    return nystroem, Ridge(recipe.alpha).fit(nystroem.transform(z), y)


def _value(machine: tuple[Nystroem, Ridge], z: FloatArray) -> FloatArray:
    nystroem, ridge = machine
    value: FloatArray = ridge.predict(nystroem.transform(z))
    return value


def _knots(values: Sequence[FloatArray], errors: Sequence[FloatArray], n_knots: int) -> FloatArray:
    """Mean error of cells of like value, made monotone, ``(2, q)``: the shape from within slides, the level from all."""
    level = float(np.mean([error.mean() for error in errors]))
    relative = np.concatenate([error / max(float(error.mean()), 1e-12) for error in errors])
    value = np.concatenate(values)
    bins = np.array_split(np.argsort(value, kind="stable"), min(n_knots, len(value)))
    x = np.array([value[cells].mean() for cells in bins])
    y = level * np.array([relative[cells].mean() for cells in bins])
    return np.stack([x, IsotonicRegression().fit_transform(x, y)])
