from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real slides: $IPAR_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("IPAR_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder; set IPAR_DATA to the folder of the slides")
    return folder
