"""The package as installed: what importing it costs, and what it offers."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys

import pytest

import ipar

ON_ARRAYS = ("baselines", "geometry", "graph", "metrics", "model", "nn", "training")


def fresh(code):
    """Run code in a new interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(statement, *modules):
    return fresh(f"{statement}\nimport sys; print(*sorted(set({modules!r}) & set(sys.modules)))").split()


def test_import_loads_nothing_heavy():
    assert loaded_by("import ipar", "torch", "matplotlib.pyplot", "anndata", "scanpy", "pandas", "numpy") == []


def test_import_takes_at_most_half_a_second():
    # processor time, best of three: what else the machine does plays no part
    clock = "from time import process_time as t; a = t(); import ipar; print(t() - a)"
    assert min(float(fresh(clock)) for _ in range(3)) <= 0.5


def test_command_line_answers_without_torch():
    code = "from ipar._cli import main\ntry:\n    main(['--version'])\nexcept SystemExit:\n    print()"
    assert loaded_by(code, "torch", "matplotlib.pyplot")[2:] == []  # after "ipar" and the version


def test_metrics_need_no_torch():
    assert loaded_by("import ipar.metrics", "torch", "anndata", "matplotlib.pyplot") == []


def test_only_the_shells_know_anndata():
    statement = "; ".join(f"import ipar.{name}" for name in ON_ARRAYS)
    assert loaded_by(statement, "anndata", "scanpy", "matplotlib.pyplot") == []


@pytest.mark.parametrize("name", ipar.__all__)
def test_lazy_attribute(name):
    found = getattr(ipar, name)
    if name in {"IGA", "IPALite", "load"}:
        assert found is getattr(importlib.import_module("ipar.model"), name)
    elif name == "settings":
        assert found is importlib.import_module("ipar._preferences").settings
    else:
        assert found is sys.modules[f"ipar.{name}"]


def test_lazy_attributes_are_listed():
    assert {*ipar.__all__, "__version__"} <= set(dir(ipar))


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="'ipar' has no attribute 'neighbours'"):
        _ = ipar.neighbours


@pytest.mark.parametrize("name", sorted(set(ipar.__all__) - {"IGA", "IPALite", "load", "settings"}))
def test_public_names_exist_and_say_what_they_are(name):
    module = importlib.import_module(f"ipar.{name}")
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    undocumented = [public for public in module.__all__ if not getattr(module, public).__doc__]
    assert undocumented == []


def test_version():
    assert ipar.__version__ == importlib.metadata.version("ipar")
    assert fresh("from ipar._cli import main; main(['--version'])") == f"ipar {ipar.__version__}"


def test_types_are_offered():
    assert importlib.resources.files("ipar").joinpath("py.typed").is_file()


def test_a_command_does_not_need_the_completion():
    code = "import sys; sys.modules['argcomplete'] = None; from ipar._cli import main; main(['--version'])"
    assert fresh(code).startswith("ipar ")
