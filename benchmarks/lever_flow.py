"""Layouts of a left-out section by samples of the flow: kept apart, averaged, beside the network, sharpened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import ipar
import tasks
from ipar._expression import get_expression
from ipar.model import IPALite, Sharpening
from ipar.model.consensus import blend_layouts
from ipar.model.ipalite import FLOW_WEIGHT
from ipar.model.sharpening import sharpen_layout
from ipar.training.finish import BESIDE_FLOW
from lever_layouts import Layouts, overview_of

N_SAMPLES = 20

Coords = NDArray[np.float32]


def layouts_of_flow(slides: tasks.Slides, seed: int) -> Layouts:
    """The network and the flow are trained on one embedding; the flow's layout takes part in the result in several ways."""
    train, query = slides.train.copy(), slides.query.copy()
    options: dict[str, Any] = {"random_state": seed, "progress": False}
    model = ipar.tl.fit_ipalite(train, library_key="slide", flow=False, **options)
    flow = ipar.tl.fit_iga(train, library_key="slide", **options)
    ipar.tl.predict_coords(query, model, global_weight=0.0, sharpen=False, **options)
    network = query.obsm["X_ipar"].copy()
    ipar.tl.sample_coords(query, flow, n_samples=N_SAMPLES, sharpen=False, **options)
    mean = query.obsm["X_ipar"].copy()
    finish = Finisher(model, query, seed)
    expected = replace(model, flow=flow).flow_mean(finish.h, seed)
    yield "one sample of the flow", query.obsm["X_ipar_samples"][:, :2]
    yield f"mean of {N_SAMPLES} samples of 50 steps", mean
    yield "… sharpened", finish.sharpened(mean)
    yield "the layout that the flow expects, one step from noise", expected
    yield "… which, sharpened", finish.sharpened(expected)
    usual = blended(network, finish.overview, model.global_weight)
    yield "network and overview, sharpened (`flow=False`)", finish.sharpened(usual)
    for overview, part in ((0.0, 0.5), (0.3, 0.5), (0.5, 0.5), (0.8, 0.5), (0.0, 0.7)):
        shares = f"{(1 - overview) * (1 - part):.2g}, {overview * (1 - part):.2g}, {part:.2g}"
        first = blended(network, finish.overview, overview)
        default = " (`flow=True`)" if (overview, part) == (BESIDE_FLOW, FLOW_WEIGHT) else ""
        yield f"network, overview, flow: {shares}, sharpened{default}", finish.sharpened(blended(first, expected, part))


class Finisher:
    """What a model does after its network: the overview, and the sharpening it chose.

    Parameters
    ----------
    model
        The model.
    query
        Cells of one slide.
    random_state
        Seed of the sharpening.
    """

    def __init__(self, model: IPALite, query: Any, random_state: int) -> None:
        expression = get_expression(query)
        one: Any = pd.Categorical(np.zeros(query.n_obs, dtype=np.int8))
        self.h, self.far, across = model.encoder.views(expression.matrix, expression.genes, one)
        self.own = model.encoder.own_components(expression.matrix, expression.genes, one)
        self.overview = overview_of(across)
        self.how = model.sharpening or Sharpening()
        self.random_state = random_state

    def sharpened(self, layout: Coords, **changes: float) -> Coords:
        """The layout, sharpened as the model's own would be, but for fields of the recipe that are given."""
        how = replace(self.how, **changes)
        return sharpen_layout(layout, self.h, self.far, how, components=self.own, random_state=self.random_state)


def blended(first: Coords, second: Coords, weight: float) -> Coords:
    """Mean of two layouts, the second turned onto the first, which it is given this weight beside."""
    start, other = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (first, second))
    mean: Coords = blend_layouts(start[None], other, weight)[0].numpy()
    return mean
