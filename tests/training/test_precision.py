from __future__ import annotations

import os
import subprocess
import sys

import pytest

KEY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


PROBE = f"""
import os, sys

class Probe:
    def find_spec(self, name, *_):
        if name == "torch":
            sys.meta_path.remove(self)
            print(os.environ.get({KEY!r}))

sys.meta_path.insert(0, Probe())
"""  # torch reads it when it is imported
SCRIPTS = {
    "ipar.training": "import ipar.training",
    "command line": "import ipar._cli\ntry:\n    ipar._cli.main(['predict', 'nothing.h5ad', '--model', 'none', '-o', 'out.h5ad'])\nexcept SystemExit:\n    pass",
}


@pytest.mark.parametrize(
    ("script", "own", "expected"),
    [
        ("ipar.training", None, "None"),
        ("command line", None, "64"),
        pytest.param("command line", "7", "7", marks=pytest.mark.thorough),
    ],
)
def test_the_cache_of_kernels_is_limited_on_the_command_line_alone(script, own, expected):
    environment = {k: v for k, v in os.environ.items() if k != KEY} | ({} if own is None else {KEY: own})
    code = f"{PROBE}\n{SCRIPTS[script]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
