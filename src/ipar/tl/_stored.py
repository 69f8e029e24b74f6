"""What prediction takes from an AnnData that a model was fitted on, and what it warns of."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from ipar._anndata import RECORD
from ipar.model import IGA, IPALite
from ipar.model.loading import model_from_state
from ipar.pp import LocalisabilityWarning
from ipar.training.localise import repeated_message

if TYPE_CHECKING:
    from anndata import AnnData


def stored_model(adata: AnnData, library_key: str | None) -> tuple[IPALite | IGA, str | None]:
    """The model of an AnnData's own fit, and the column that tells its slides apart.

    Raises
    ------
    ValueError
        If there is none.
    """
    state = adata.uns.get(RECORD, {}).get("model")
    if state is None:
        msg = (
            "No model given and none was fitted on this AnnData: give one, ipar.tl.predict_coords(adata, model), with "
            "model = ipar.tl.fit_ipalite(slides, library_key=...) or ipar.load(directory)."
        )
        raise ValueError(msg)
    model = model_from_state(state["format"], json.loads(state["config"]), state["arrays"])
    fitted_key = model.record.get("library_key")
    return model, library_key or (fitted_key if fitted_key in adata.obs else None)


def stored_ipalite(adata: AnnData, library_key: str | None) -> tuple[IPALite, str | None]:
    """The same where it must be an IPA-Lite model.

    Raises
    ------
    TypeError
        If it is another one.
    """
    model, library_key = stored_model(adata, library_key)
    if not isinstance(model, IPALite):
        msg = "The model fitted on this AnnData is an IGA, and this looks into IPA-Lite: give an IPALite as model."
        raise TypeError(msg)
    return model, library_key


def warn_unlocalisable(record: dict[str, Any]) -> None:
    """Warn if a model's record says that its tissue cannot be localised, or looks mirrored or repeated."""
    verdict = record.get("localisability", {})
    if not verdict.get("localisable", True):
        warnings.warn(
            f"The model was trained on a tissue that cannot be localised from expression (leaving one slide out, the "
            f"embedding explains {verdict['explained']:.0%} of the variance of positions, distances correlate at {verdict['distance_spearman']:.2f}, candidates hold {verdict['recall_ratio']:.1f} times as "
            "many true neighbours as chance): these coordinates mean nothing.",
            LocalisabilityWarning,
            stacklevel=3,
        )
    elif verdict.get("repeated", False):
        warnings.warn(
            f"The model was trained on a tissue of which not every part can be told apart. "
            f"{repeated_message(verdict['two_places'])}",
            LocalisabilityWarning,
            stacklevel=3,
        )
