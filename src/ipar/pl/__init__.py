"""Plots of predictions, attention, training and diagnostics."""

from __future__ import annotations

from ipar.pl._attention import attention_focus
from ipar.pl._bars import gap, localisability
from ipar.pl._diagnostics import diagnostics
from ipar.pl._ellipses import ellipses
from ipar.pl._errors import shepard, uncertainty
from ipar.pl._history import history
from ipar.pl._layouts import coord_progression, coords
from ipar.pl._reference import on_reference
from ipar.pl._regions import regions
from ipar.pl._report import report
from ipar.pl._samples import samples

__all__ = [
    "attention_focus",
    "coord_progression",
    "coords",
    "diagnostics",
    "ellipses",
    "gap",
    "history",
    "localisability",
    "on_reference",
    "report",
    "regions",
    "samples",
    "shepard",
    "uncertainty",
]
