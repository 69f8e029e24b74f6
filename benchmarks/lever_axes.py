"""Layouts by components half of which are axes of largest spatial covariance, genes counting as they do by default."""

from __future__ import annotations

from functools import partial
from typing import Any

import lever_weights

WAYS: dict[str, dict[str, Any]] = {"half of the axes spatial (the default)": {}}
measure = partial(lever_weights.measure, ways=WAYS)
