"""Choices that the founding recipe found harmful, with its figures."""

from __future__ import annotations

from collections.abc import Callable

from ipar.nn.config import IPALiteConfig
from ipar.training.network import IPALiteTraining, NetworkRecipe

_CONFIG: tuple[tuple[Callable[[IPALiteConfig], bool], str], ...] = (
    (lambda c: c.geometry == "monotone", "geometry='monotone': E_geo 0.64, against 0.44 of 'clamped'"),
    (
        lambda c: not c.shared and c.qk and c.qk_norm is None,
        "shared=False without qk_norm: the standard deviation of the logits grew to 10⁴ and more, set qk_norm='scaled' or 'cosine'",
    ),
    (lambda c: c.per_recycle, "per_recycle=True, as in 'ipar2d': E_geo 0.61, against 0.43 to 0.46 of 'v1'"),
    (
        lambda c: not c.shared and c.n_recycles > 3,
        "more than 3 recycles with weights of their own: 3 were better than 5",
    ),
    (
        lambda c: not c.shared and c.geometry == "point" and not c.per_recycle,
        "geometry='point' with shared=False: offsets grew to 40 to 110 RMS radii",
    ),
    (lambda c: c.gate_supervision == "T2", "gate_supervision='T2': E_geo 0.56, against 0.50 of 'T1'"),
)
_TRAINING: tuple[tuple[Callable[[IPALiteTraining], bool], str], ...] = (
    (lambda t: t.weights.walk >= 1, "a weight of the walk loss of 1 or more overfits slides, 0.3 does not"),
    (lambda t: t.weights.gate > 0.05, "a weight of the gate's loss above 0.05 gained nothing"),
    (lambda t: t.gate_steps >= 2000, "2,000 steps of the gate alone were worse than 500"),
)


def caution(recipe: NetworkRecipe) -> str | None:
    """What the founding recipe found against the choices of a recipe, in a sentence; None if there is nothing."""
    found = [text for harms, text in _CONFIG if harms(recipe.config)]
    found += [text for harms, text in _TRAINING if harms(recipe.training)]
    if not found:
        return None
    return (
        f"The recipe that ipar follows reports harm from these choices: {'; '.join(found)}. Some of them do no harm on other "
        "slides: see 'From the recipe to ipar' in the documentation."
    )
