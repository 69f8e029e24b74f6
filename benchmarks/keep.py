"""Results on disk: made once, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kept(path: Path, make: Callable[[], dict[str, Any]], *, fresh: bool = False) -> dict[str, Any]:
    """The result in a JSON file, or that of ``make``, which is written to the file."""
    if path.is_file() and not fresh:
        return dict(json.loads(path.read_text()))
    result = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(".part")
    staging.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(staging, path)
    return dict(result)
