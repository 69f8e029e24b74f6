"""Measurements in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tasks.records import Record

ROOT = Path(__file__).resolve().parents[2]


def measured(what: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Record:
    """What a module of the benchmarks prints after ``RESULT`` when it is run with some arguments.

    Raises
    ------
    RuntimeError
        If it fails, with the end of what it wrote.
    """
    command, own = [sys.executable, "-m", *arguments], {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=own)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{what} failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))
