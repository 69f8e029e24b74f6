"""The flow that takes part in IPA-Lite's layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.model import IGA
from ipar.model._encoder import GeometryEncoder
from ipar.pp._ellipses import neighbor_ellipses
from ipar.tl._fitting import with_epochs
from ipar.training import FlowTraining, MinisetPlan, fit_flow

PLAN = MinisetPlan(n_minisets=48, size=(128, 256), n_neighbors=48)  # that of fit_iga
N_NEIGHBORS_ELLIPSE = 10


def fitted_flow(
    encoder: GeometryEncoder,
    embedding: NDArray[np.float32],
    coords: NDArray[np.float32],
    slides: pd.Categorical,
    *,
    max_epochs: int | None,
    refit: bool,
    random_state: int,
    device: torch.device,
    progress: bool,
) -> tuple[IGA, IGA]:
    """A generative model of poses on the embedding, with :func:`fit_iga`'s defaults.

    Returns
    -------
    tuple
        The model, and as it was before it saw the left-out slide, which is that of :func:`ipar.training.fit_networks` with
        the same seed.
    """
    ellipses = neighbor_ellipses(coords, slides, N_NEIGHBORS_ELLIPSE).astype(np.float32)
    rows = [np.flatnonzero(slides == name) for name in slides.categories]
    fit = fit_flow(
        *([part[cells] for cells in rows] for part in (embedding, coords, ellipses)),
        training=with_epochs(FlowTraining(), max_epochs),
        plan=PLAN,
        refit=refit,
        random_state=random_state,
        device=device,
        progress=progress,
    )
    record = {"best_epoch": fit.best_epoch}
    flow = IGA(encoder, fit.net.cpu(), fit.gate.cpu(), PLAN.n_neighbors, PLAN.size, record)
    return flow, replace(flow, net=fit.unseen[0].cpu(), gate=fit.unseen[1].cpu())
