from __future__ import annotations

import os
import subprocess
import sys

import pytest

KEY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


SCRIPTS = {
    "ipar.training": "import ipar.training",
    "command line": "import ipar._cli\ntry:\n    ipar._cli.main(['evaluate', 'nothing.h5ad'])\nexcept SystemExit:\n    pass",
}


@pytest.mark.parametrize(
    ("script", "own", "expected"),
    [("ipar.training", None, "None"), ("command line", None, "64"), ("command line", "7", "7")],
)
def test_the_cache_of_kernels_is_limited_on_the_command_line_alone(script, own, expected):
    environment = {k: v for k, v in os.environ.items() if k != KEY} | ({} if own is None else {KEY: own})
    code = f"import os\n{SCRIPTS[script]}\nprint(os.environ.get({KEY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
