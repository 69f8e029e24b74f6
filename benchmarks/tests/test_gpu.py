from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu


@pytest.mark.filterwarnings("ignore::UserWarning")  # a few cells look unlike their slides
@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said without a GPU")
def test_without_a_gpu_the_cpu_alone_is_measured(tmp_path, capsys):
    found = gpu.main(["--cells", "120", "--query", "400", "--out", str(tmp_path / "gpu.json")])
    assert "the CPU alone" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert {"fit_seconds_cpu", "predict_seconds_layout_cpu", "predict_seconds_sharpened_cpu"} <= set(found)
    assert not any("cuda" in name for name in found)
