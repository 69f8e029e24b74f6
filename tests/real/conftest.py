from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ipar


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Paths of real data by name, under $IPAR_DATA, else ../shared/data beside the repository; without them a test skips."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = ipar.settings.datadir or beside

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no real data: {path} is absent; set IPAR_DATA to the folder of the slides")
        return path

    return find
