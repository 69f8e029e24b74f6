"""Work in other processes and threads after work in this one, with OpenMP's threads running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            "fork",
            marks=[
                pytest.mark.skipif(sys.platform != "linux", reason="forks are usual on Linux alone"),
                pytest.mark.thorough,
            ],
        ),
        pytest.param("threads", marks=pytest.mark.thorough),
        pytest.param("spawn", marks=[pytest.mark.slow, pytest.mark.thorough]),
        pytest.param("forkserver", marks=[pytest.mark.slow, pytest.mark.thorough]),
        pytest.param("joblib", marks=[pytest.mark.slow, pytest.mark.thorough]),
    ],
)
def test_workers_find_what_this_process_finds(world, how):
    own = {f"{library}_NUM_THREADS": "2" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.matrix.processes", how, str(world.folder)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | own | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "same" in done.stdout
    if how == "fork":
        assert "UMAP cannot run in a process that was forked" in done.stdout
