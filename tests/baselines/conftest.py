from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Tissue:
    x: np.ndarray  # (n_train, genes)
    coords: np.ndarray
    slides: np.ndarray
    query: np.ndarray
    truth: np.ndarray


def make_tissue(n: int = 150, n_genes: int = 60, n_slides: int = 3, noise: float = 0.3, seed: int = 0) -> Tissue:
    """Smooth gene gradients over a wide tissue; every slide turned or mirrored, with a shift of its own on every gene."""
    rng = np.random.default_rng(seed)
    waves, phase = rng.normal(scale=1.0, size=(2, n_genes)), rng.uniform(0, 2 * np.pi, n_genes)
    parts = []
    for _ in range(n_slides + 1):
        place = rng.uniform(-1, 1, (n, 2)) * [1.6, 1.0]
        x = np.sin(place @ waves + phase) + noise * rng.normal(size=(n, n_genes)) + rng.normal(size=n_genes)
        turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
        parts.append((x.astype(np.float32), 50 * place @ turn + 7))
    slides = np.repeat([f"s{i}" for i in range(n_slides)], n)
    train = parts[:n_slides]
    return Tissue(
        np.concatenate([x for x, _ in train]),
        np.concatenate([c for _, c in train]),
        slides,
        *parts[n_slides],
    )


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    return make_tissue()
