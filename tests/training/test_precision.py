from __future__ import annotations

import os
import subprocess
import sys

import pytest

KEY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@pytest.mark.parametrize(("own", "expected"), [(None, "64"), ("7", "7")])
def test_the_cache_of_kernels_is_limited_unless_the_user_has_set_it(own, expected):
    environment = {k: v for k, v in os.environ.items() if k != KEY} | ({} if own is None else {KEY: own})
    command = [sys.executable, "-c", f"import os, ipar.training; print(os.environ[{KEY!r}])"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
