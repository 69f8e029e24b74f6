"""How far a cell may lie from where it was placed: an expected error, from what is known without the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors

from ipar._chunks import row_slices
from ipar._options import AtLeastFive, Depth, NonNegative, checked
from ipar._run import Run
from ipar.graph.nearest import Nearest, nearest, without_itself
from ipar.model.blend import global_map, principal_components
from ipar.model.checks import check_width, shaped
from ipar.model.features import embedding_order
from ipar.model.flow import Flow
from ipar.model.io import Arrays, State
from ipar.model.outputs import Features

FloatArray = NDArray[np.float64]

_HEAD_NUMBERS = {
    "intercept": float,
    "gamma": NonNegative,
    "n_samples": Depth,
    "n_steps": Depth,
    "most_drawn": AtLeastFive,
}
_N_SIGNS = 8  # of :func:`trouble_signs`
_HEAD_ARRAYS = {"centre": "e", "axes": "e p", "landmarks": "m z", "weights": "m", "knots": "2 q", "joint": "2 r?"}


@dataclass(frozen=True)
class UncertaintyHead:
    r"""Expected error of a cell by a smooth function of where it stands in the embedding and how well that fits a plane.

    .. math:: u_i = m\Big(b + \sum_l w_l \exp(-\gamma \lVert z_i - z^l \rVert^2)\Big)

    z holds the signs of trouble (:func:`trouble_signs`) and the first principal components of the embedding: regions of a
    tissue that are often mistaken for each other are so on every section. The weights are those of a kernel ridge
    regression on landmarks (Nyström), the monotone map m turns its value into an error. Both are fitted on the training
    slides as encoders embed them that never saw their coordinates; see :func:`ipar.tl.fit_ipalite`.

    A model with a flow knows more: where samples of it put a cell in many places, its place is in doubt, whatever other
    slides say. The value then counts by its rank, as much as that of their spread (:func:`joint_sign`), and a map of its
    own turns both together into an error, fitted on the held-out slide.

    Attributes
    ----------
    centre, axes
        Mean of the embedding ``(d,)`` and its principal axes, scaled, ``(d, p)``.
    landmarks, weights
        ``(m, 8 + p)`` and ``(m,)``.
    intercept, gamma
        b and γ.
    knots
        Values and the errors that belong to them, both rising, ``(2, q)``: m runs straight between them.
    joint
        The same of value and spread together; None without a flow.
    n_samples, n_steps
        Samples of the flow and steps of each; half as many samples rank errors less well.
    most_drawn
        Cells that samples are drawn for; of all cells they would take longer than all else of a prediction.

    References
    ----------
    Williams & Seeger, Using the Nyström method to speed up kernel machines, NIPS 13 (2000).
    """

    centre: FloatArray
    axes: FloatArray
    landmarks: FloatArray
    weights: FloatArray
    intercept: float
    gamma: float
    knots: FloatArray
    joint: FloatArray | None = None
    n_samples: int = 16
    n_steps: int = 3
    most_drawn: int = 1_500

    def expected_error(
        self, features: Features, spread: NDArray[np.float32] | None = None, near: Nearest | None = None
    ) -> NDArray[np.float32]:
        """Expected distance from the true place, after alignment, in RMS radii of the tissue, ``(n,)``.

        ``spread``, of samples of the flow (:func:`spread_of`), is not read by a head that was fitted without. ``near`` holds
        the nearest cells in the embedding, if they are known.
        """
        value = self.value(features, near)
        if spread is None or self.joint is None:
            return np.interp(value, *self.knots).astype(np.float32)
        return np.interp(joint_sign(value, spread), *self.joint).astype(np.float32)

    def value(self, features: Features, near: Nearest | None = None) -> FloatArray:
        """What m is applied to, ``(n,)``."""
        z = head_input(features, self.centre, self.axes, near)
        parts = np.array_split(z, -(-len(z) // 20_000))  # cells whose kernel is held at once
        return self.intercept + np.concatenate(
            [rbf_kernel(part, self.landmarks, gamma=self.gamma) @ self.weights for part in parts]
        )

    def state(self) -> State:
        """Settings and arrays."""
        names = [name for name in _HEAD_ARRAYS if getattr(self, name) is not None]
        arrays: Arrays = {name: np.asarray(getattr(self, name)) for name in names}
        return {name: getattr(self, name) for name in _HEAD_NUMBERS}, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> UncertaintyHead:
        """The head of :meth:`state`."""
        own: dict[str, Any] = shaped(arrays, _HEAD_ARRAYS)
        check_width("number of signs and components", own["landmarks"].shape[1], _N_SIGNS + own["axes"].shape[1])
        return cls(**checked(config, _HEAD_NUMBERS), **own)


def spread_of(
    flow: Flow, embedding: NDArray[np.float32], head: UncertaintyHead, run: Run, n_neighbors: int = 15
) -> NDArray[np.float32]:
    """Root mean squared distance of each cell's places, in samples of a few steps, from their mean, ``(n,)``.

    Noise is drawn by the order of the embedding: that of the rows does not matter. Of more cells than the head's
    `most_drawn` samples are drawn for a random part; the others take the mean spread of the ``n_neighbors`` nearest in
    the embedding.
    """
    order, most_drawn = embedding_order(embedding), head.most_drawn
    if len(embedding) > most_drawn:
        order = run.rng.choice(order, most_drawn, replace=False)
    drawn = flow.sample(embedding[order], head.n_samples, n_steps=head.n_steps, run=run)
    if len(embedding) <= most_drawn:
        return drawn.uncertainty[np.argsort(order)]
    k = min(n_neighbors, most_drawn)
    near = KNeighborsRegressor(k, weights="distance", algorithm="brute").fit(embedding[order], drawn.uncertainty)
    parts = (near.predict(embedding[rows]) for rows in row_slices(len(embedding)))
    spread: NDArray[np.float32] = np.concatenate(list(parts)).astype(np.float32)
    return spread


def joint_sign(value: FloatArray, spread: NDArray[np.floating]) -> FloatArray:
    """Sum of the normal scores, within the slide, of a head's value and of the spread of samples, ``(n,)``."""
    return _normal_scores(value) + _normal_scores(spread)


def _normal_scores(sign: NDArray[np.floating]) -> FloatArray:
    scores: FloatArray = norm.ppf((rankdata(sign) - 0.5) / len(sign))
    return scores


def head_input(features: Features, centre: FloatArray, axes: FloatArray, near: Nearest | None = None) -> FloatArray:
    """Signs of trouble beside principal components, ``(n, 8 + p)``."""
    z = np.empty((len(features.embedding), _N_SIGNS + axes.shape[1]))
    z[:, :_N_SIGNS] = trouble_signs(features, near)
    for rows in row_slices(len(z)):
        z[rows, _N_SIGNS:] = features.embedding[rows] @ axes - centre @ axes
    return z


def trouble_signs(features: Features, near: Nearest | None = None, n_neighbors: int = 15) -> FloatArray:
    """What tells, without the truth, that a cell of a slide may be misplaced, ``(n, 8)``, as normal scores.

    Spread of a cell's nearest in the embedding over the global map, distance of their mean from the cell, cosine distance to
    the nearest and to the last of them, share of them that are neighbours in the layout too, radius in the layout, norm of
    the global features, and share of it in the plane. Ranks, because new slides differ in size and density.
    """
    embedding, across = features
    n = len(embedding)
    k = min(n_neighbors, n - 1)
    layout = global_map(across).numpy().astype(np.float64)
    alike = nearest(embedding, k) if near is None or near.index.shape[1] < k else near.first(k)
    search, mean = NearestNeighbors(n_neighbors=k).fit(layout), across.mean(axis=0)
    plane = principal_components(across, 2).numpy()
    signs = np.empty((n, _N_SIGNS))
    for rows in row_slices(n):
        own = alike.index[rows]
        signs[rows] = _signs_of_cells(layout, rows, own, search, across[rows] - mean, plane[rows])
        signs[rows, 2:4] = alike.distance[rows][:, [0, -1]]
    for column in signs.T:
        column[:] = _normal_scores(column)
    return signs


def _others(search: NearestNeighbors, points: FloatArray, rows: slice) -> NDArray[np.int64]:
    """Nearest of all other points for some of them, which are these rows, ``(m, k)``."""
    found = search.kneighbors(points, search.n_neighbors + 1, return_distance=False)
    return without_itself(found, np.arange(rows.start, rows.stop))


def _signs_of_cells(
    layout: FloatArray,
    rows: slice,
    alike: NDArray[np.int32],
    search: NearestNeighbors,
    centred: NDArray[np.float32],
    plane: NDArray[np.float32],
) -> FloatArray:
    """The signs of some cells before they are ranked, ``(m, 8)``, without the two distances in the embedding."""
    around, own = layout[alike], layout[rows]  # (m, k, 2)
    middle = around.mean(axis=1)
    close = _others(search, own, rows)
    shared = sum((close == column[:, None]).any(axis=1).astype(int) for column in alike.T)
    length = np.linalg.norm(centred, axis=1)
    none = np.zeros(len(own))
    signs = [
        np.square(around - middle[:, None]).sum(axis=-1).mean(axis=1),
        np.square(middle - own).sum(axis=1),
        none,
        none,
        shared,
        np.linalg.norm(own, axis=1),
        length,
        np.linalg.norm(plane, axis=1) / np.maximum(length, np.finfo(np.float32).tiny),
    ]
    return np.stack(signs, axis=1)
