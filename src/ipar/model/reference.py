"""The training slides, kept small, as places that other cells can be carried to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from ipar._options import check
from ipar.model.checks import check_width, checked_names, shaped
from ipar.model.given import Encoder
from ipar.model.io import Arrays, State


@dataclass(frozen=True)
class ReferenceSlide:
    """One training slide.

    Attributes
    ----------
    name
        Its name.
    features
        Its cells in the space of the reference, float16, ``(m, d)``.
    coords
        Their coordinates in the slide's own frame and units, ``(m, 2)``.
    oriented
        How sure expression tells rotation and reflection of such a slide, as held-out cells showed.
    """

    name: str
    features: NDArray[np.float16]
    coords: NDArray[np.float64]
    oriented: float = 1.0

    def __len__(self) -> int:
        return len(self.coords)

    def rows(self, cells: NDArray[np.intp]) -> ReferenceSlide:
        """Some of its cells, or all in another order."""
        return replace(self, features=self.features[cells], coords=self.coords[cells])

    @property
    def radius(self) -> float:
        """RMS distance of its cells from their centre."""
        return float(np.sqrt(np.square(self.coords - self.coords.mean(axis=0)).sum(axis=1).mean()))


@dataclass(frozen=True)
class Reference:
    """Features and coordinates of the training slides, in some 140 bytes per cell.

    Features are principal components of the embedding.

    Attributes
    ----------
    centre, axes
        Mean of the embedding ``(e,)`` and principal axes, ``(e, d)``.
    slides
        The slides.
    mean
        Mean expression of the training slides, ``(n_genes,)``.
    spread
        Standard deviation of every gene within slides, ``(n_genes,)``.
    decoder
        Linear map from features to the expected deviation of every gene from the mean of its slide, ``(d, n_genes)``.
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]
    slides: tuple[ReferenceSlide, ...]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    decoder: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        expression: Sequence[sparse.csr_matrix],
        coords: Sequence[NDArray[np.float64]],
        names: Sequence[str],
        oriented: float = 1.0,
        n_components: int = 64,
    ) -> Reference:
        """Keep slides with expression ``(m_s, n_genes)`` in the encoder's order and coordinates ``(m_s, 2)``.

        Of the embedding, ``n_components`` are kept. ``oriented`` is that of :class:`ReferenceSlide`.
        """
        labels: list[pd.Categorical[Any]] = [
            pd.Categorical([name] * len(x)) for name, x in zip(names, coords, strict=True)
        ]
        parts = [encoder.transform(x, encoder.genes, own) for x, own in zip(expression, labels, strict=True)]
        whole = np.concatenate(parts)
        pca = PCA(min(n_components, *whole.shape), svd_solver="covariance_eigh").fit(whole)
        centre, axes = pca.mean_.astype(np.float32), np.ascontiguousarray(pca.components_.T, dtype=np.float32)
        features = [(h - centre) @ axes for h in parts]
        means = [np.asarray(x.mean(axis=0), dtype=np.float32).ravel() for x in expression]
        slides = tuple(
            ReferenceSlide(name, z.astype(np.float16), np.asarray(x, dtype=np.float64), oriented)
            for name, z, x in zip(names, features, coords, strict=True)
        )
        decoder = _regression(features, expression, means)
        square = np.mean([np.asarray(x.multiply(x).mean(axis=0)).ravel() for x in expression], axis=0)
        spread = np.sqrt(np.maximum(square - np.mean(np.square(means), axis=0), 0)).astype(np.float32)
        return cls(centre, axes, slides, np.mean(means, axis=0), spread, decoder)

    @property
    def names(self) -> list[str]:
        """Names of the slides."""
        return [slide.name for slide in self.slides]

    def slide(self, name: str | None = None) -> ReferenceSlide:
        """The slide of a name, or the only one.

        Raises
        ------
        ValueError
            If there is no such slide, or several and no name.
        """
        if name is None and len(self.slides) == 1:
            return self.slides[0]
        for slide in self.slides:
            if slide.name == name:
                return slide
        msg = f"reference must name a training slide of the model, found {name!r}: choose one of {self.names}."
        raise ValueError(msg)

    def project(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embedding ``(n, e)`` to the space of the reference, ``(n, d)``."""
        projected: NDArray[np.float32] = np.matmul(embedding - self.centre, self.axes, dtype=np.float32)
        return projected

    def sample(self, n: int) -> NDArray[np.float32]:
        """Features of so many cells of all slides at most, ``(m, d)``; the order of the cells of a slide plays no part."""
        whole = np.concatenate([slide.features[np.lexsort(slide.features.T[:4])] for slide in self.slides])
        picked: NDArray[np.float32] = whole[np.sort(np.random.default_rng(0).permutation(len(whole))[:n])].astype(
            np.float32
        )
        return picked

    def expected(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Expected deviation of the genes of cells with some features ``(..., d)`` from the mean, ``(..., n_genes)``."""
        deviation: NDArray[np.float32] = features @ self.decoder
        return deviation

    def state(self) -> State:
        """Settings and arrays."""
        names = ("centre", "axes", "mean", "spread", "decoder")
        arrays: Arrays = {name: getattr(self, name) for name in names}
        for i, slide in enumerate(self.slides):
            origin = slide.coords[0]  # not the mean, which is another one after a round trip
            own: Arrays = {
                "features": slide.features,
                "origin": origin,
                "coords": (slide.coords - origin).astype(np.float32),
            }
            arrays |= {f"{name}{i}": value for name, value in own.items()}
        return {"names": self.names, "oriented": [slide.oriented for slide in self.slides]}, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Reference:
        """The object of :meth:`state`."""
        numbers = shaped(arrays, {"centre": "e", "axes": "e d", "mean": "g", "spread": "g", "decoder": "d g"})
        check("oriented", config["oriented"], Sequence[float])
        names = checked_names("names", config["names"], sum(name.startswith("features") for name in arrays))
        for i in range(len(names)):
            table = {f"features{i}": "m d", f"coords{i}": "m 2", f"origin{i}": "2"}
            check_width(
                "a dimension of features", shaped(arrays, table)[f"features{i}"].shape[1], len(numbers["decoder"])
            )
        slides = tuple(
            ReferenceSlide(
                name, arrays[f"features{i}"], arrays[f"coords{i}"].astype(np.float64) + arrays[f"origin{i}"], oriented
            )
            for i, (name, oriented) in enumerate(zip(names, config["oriented"], strict=True))
        )
        return cls(slides=slides, **numbers)


def _regression(
    features: Sequence[NDArray[np.float32]],
    expression: Sequence[sparse.csr_matrix],
    means: Sequence[NDArray[np.float32]],
    penalty: float = 1e-3,
) -> NDArray[np.float32]:
    """Ridge regression of centred expression on features, ``(d, n_genes)``, with a penalty relative to their variance."""
    d, n_genes = features[0].shape[1], expression[0].shape[1]
    square, product = np.zeros((d, d)), np.zeros((d, n_genes))
    for z, x, mean in zip(features, expression, means, strict=True):
        square += z.T @ z
        product += (x.T @ z).T - np.outer(z.sum(axis=0), mean)
    ridge = penalty * np.trace(square) / d
    found: NDArray[np.float32] = np.linalg.solve(square + ridge * np.eye(d), product).astype(np.float32)
    return found
