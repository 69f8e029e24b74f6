"""Layouts of one fit, finished in several ways: shares of its layouts, samples of its flow, sharpening."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.ablations.fits import Layouts, Placed, fit_model, read
from benchmarks.tasks.tasks import Slides
from ipar.model import Blend
from ipar.training import FinishRecipe, Run

N_SAMPLES, N_STEPS = 20, 50
DEFAULT = FinishRecipe().blend
NO_FLOW = Blend(global_map=0.8)  # of the records
_TRIED = (Blend(0.0, 0.5), Blend(0.3, 0.5), Blend(0.5, 0.5), Blend(0.8, 0.5), Blend(0.0, 0.7))
_COMPARED = (Blend(0.8, 0.5), DEFAULT)
_SHARPENINGS: dict[str, dict[str, Any]] = {
    " with a weak push (ρ = 1)": {"push": 1.0},
    " with a loose hold (λ = 0.3)": {"hold": 0.3},
    " with a firm hold (λ = 4)": {"hold": 4.0},
    ", only the layout's distances held (τ = 0)": {"global_share": 0.0},
    " by neighbours in the embedding alone (ω = 0)": {"slide_pc_share": 0.0},
    " by neighbours in the slide's own components alone (ω = 1)": {"slide_pc_share": 1.0},
}
TAUGHT = (0.3, 0.0)  # shares of the global features in the distances that the sharpening holds


def named(blend: Blend) -> str:
    """What a sharpened blend of all three layouts is called."""
    rest = 1 - blend.flow
    shares = f"{(1 - blend.global_map) * rest:.2g}, {blend.global_map * rest:.2g}, {blend.flow:.2g}"
    return f"network, overview, flow: {shares}, sharpened"


def layouts_by_steps(slides: Slides, seed: int) -> Layouts:
    """Steps after the embedding, without a flow."""
    model = fit_model(slides, seed, flow=False)
    placed, how = Placed.by(model, read(slides)[1], seed), model.sharpening
    yield "network alone", placed.finished(Blend(global_map=0.0))
    yield "mean of network and overview", placed.finished(model.blend)
    yield "… sharpened (the default, as chosen on a left-out training slide)", placed.finished(model.blend, how)
    for name, changes in _SHARPENINGS.items():
        yield f"… sharpened{name}", placed.finished(model.blend, replace(placed.sharpening, **changes))


def layouts_by_flow(slides: Slides, seed: int) -> Layouts:
    """What the flow says by itself and in the blend."""
    model = fit_model(slides, seed)
    placed = Placed.by(model, read(slides)[1], seed)
    assert model.flow is not None
    assert placed.expected is not None
    drawn = model.flow.sample(placed.features.embedding, N_SAMPLES, n_steps=N_STEPS, run=Run(seed))
    yield "one sample of the flow", placed.back(drawn.coords[0])
    yield f"mean of {N_SAMPLES} samples of {N_STEPS} steps", placed.back(drawn.point("mean"))
    yield "… sharpened", placed.sharpened(drawn.point("mean"), placed.sharpening)
    yield "the layout that the flow expects, one step from noise", placed.back(placed.expected)
    yield "… which, sharpened", placed.sharpened(placed.expected, placed.sharpening)
    yield "network and overview, sharpened (`flow=False`)", placed.finished(NO_FLOW, placed.sharpening)
    for blend in _TRIED:
        note = " (`flow=True`)" if blend == DEFAULT else ""
        yield f"{named(blend)}{note}", placed.finished(blend, placed.sharpening)


def layouts_by_shares(slides: Slides, seed: int) -> Layouts:
    """The default with the flow and without it, and with less held of the embedding's distances."""
    model = fit_model(slides, seed)
    placed = Placed.by(model, read(slides)[1], seed)
    assert placed.expected is not None
    yield "the layout that the flow expects", placed.back(placed.expected)
    yield "network and overview, sharpened (`flow=False`)", placed.finished(NO_FLOW, placed.sharpening)
    for blend in _COMPARED:
        note = " (the default)" if blend == DEFAULT else ""
        yield f"{named(blend)}{note}", placed.finished(blend, placed.sharpening)
    for share in TAUGHT:
        name = f"the default, less held of the embedding's distances (τ = {share:g})"
        yield name, placed.finished(DEFAULT, replace(placed.sharpening, global_share=share))
