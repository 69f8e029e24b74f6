"""The repository as a whole: what README, documentation and CI say must be so."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

import ipar
from ipar._cli import _parser

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = ("pp", "tl", "pl", "metrics", "datasets")
README = (ROOT / "README.md").read_text()
API = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
PROSE = [README, *(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))


def code_blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def readme_commands():
    """The lines of the README that make an environment, by what they run in it."""
    lines = [line for block in code_blocks(README, "bash") for line in block.splitlines() if "venv" in line]
    return {line.rsplit(" && ", 1)[-1].removeprefix(".venv/bin/"): line for line in lines}


def repository_files():
    """Files that are in git or would be added to it."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_path_of_a_machine():
    places = "|".join(["home", "root", "tmp", "work", "Users", "mnt"])  # apart from the slash, lest this file match
    pattern = re.compile(rf"(?<![\w./~-])/(?:{places})/[\w.]")
    found = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        if "\0" not in text and (match := pattern.search(text)):
            found.append(f"{path.relative_to(ROOT)}: {text[match.start() : match.end() + 30]!r}")
    assert found == []


def test_readme_has_the_two_commands():
    commands = readme_commands()
    assert set(commands) == {"ipar demo", "python -m pytest"}
    for line in commands.values():
        make, install, _ = line.split(" && ")
        assert make == "python3 -m venv .venv"
        assert install.startswith(".venv/bin/python -m pip install -c constraints.txt ")


def test_readme_installs_extras_that_exist():
    asked = {extra for line in readme_commands().values() for extra in re.findall(r"\.\[(\w+)\]", line)}
    assert asked <= set(PROJECT["optional-dependencies"])
    assert "test" in asked


def test_ci_runs_the_readme_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    select = next(line for line in script.read_text().splitlines() if line.startswith("test_command="))
    chosen = subprocess.run(
        ["bash", "-euc", f'{select}; printf %s "$test_command"'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert chosen == readme_commands()["python -m pytest"]
    assert '-c "$test_command"' in script.read_text()
    assert "pytest" not in script.read_text().replace(select, "")


def test_workflow_tests_every_python_that_is_promised():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = json.loads(re.search(r"^ +python-version: (\[.*\])$", workflow, flags=re.MULTILINE)[1])
    promised = [found[1] for name in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", name))]
    assert tested == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_readme_command_lines_are_understood():
    lines = [line for block in code_blocks(README, "bash") for line in block.splitlines() if line.startswith("ipar ")]
    commands = [_parser().parse_args(shlex.split(line, comments=True)[1:]).command for line in lines]
    assert set(commands) == {"demo", "fit", "predict", "evaluate"}


@pytest.mark.parametrize(
    "name", [f"{module}.{public}" for module in PUBLIC for public in importlib.import_module(f"ipar.{module}").__all__]
)
def test_api_lists_every_public_name(name):
    assert re.search(rf"^ +{re.escape(name)}$", API, flags=re.MULTILINE), f"docs/api has no line {name!r}"


@pytest.mark.parametrize("name", ipar.__all__)
def test_api_covers_every_module(name):
    assert re.search(rf"^ +(ipar\.)?{name}(\.\w+)?$", API, flags=re.MULTILINE), f"docs/api lists nothing of {name!r}"


def test_prose_names_only_what_exists():
    named = {found for text in PROSE for found in re.findall(r"\bipar\.([a-z]+)\.([A-Za-z_]\w*)", text)}
    modules = {
        module: importlib.import_module(f"ipar.{module}") for module in set(ipar.__all__) - {"IGA", "IPALite", "load"}
    }
    assert {module for module, _ in named} >= {"pp", "tl", "pl", "metrics", "datasets"}
    assert [pair for pair in sorted(named) if pair[0] in modules and pair[1] not in modules[pair[0]].__all__] == []


@pytest.mark.parametrize("text", PROSE, ids=lambda text: text.split("\n", 1)[0])
def test_python_in_prose_is_valid(text):
    for block in code_blocks(text, "python"):
        compile(block, "prose", "exec")


def test_links_in_readme_lead_somewhere():
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", README)]
    inside = [target for target in targets if target and "://" not in target]
    assert inside
    assert [target for target in inside if not (ROOT / target).exists()] == []


def test_there_is_a_tutorial():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_was_run_from_top_to_bottom(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code" and cell["source"]]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
