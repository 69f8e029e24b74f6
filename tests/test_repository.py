"""The repository as a whole: what README, documentation and CI say must be so."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import ipar
from ipar._cli import _parser
from ipar._preferences import _VARIABLES, Settings

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = ("pp", "tl", "pl", "get", "metrics", "datasets")
README = (ROOT / "README.md").read_text()
API = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
PROSE = [README, *(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
RELEASE = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
YAML_FILES = sorted([*ROOT.glob(".github/**/*.yml"), *ROOT.glob(".*.yaml"), ROOT / "CITATION.cff"])
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
    matrix = CI["jobs"]["test"]["strategy"]["matrix"]
    promised = [found[1] for name in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", name))]
    assert matrix["python-version"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    others = {one["dependencies"]: one for one in matrix["include"]}
    assert others["lowest"]["python-version"] == promised[0]
    assert "lowest-direct" in others["lowest"]["options"]
    assert others["pre-release"]["python-version"] == promised[-1]


def test_one_check_waits_for_all_jobs():
    assert set(CI["jobs"]["check"]["needs"]) == set(CI["jobs"]) - {"check"}


def steps(workflow):
    return [(name, step) for name, job in workflow["jobs"].items() for step in job["steps"]]


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    pinned = re.compile(r"\s*(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in lines if not pinned.fullmatch(line)] == []
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_one_action_has_one_version():
    used = {
        step["uses"].split("@")[0]: set() for workflow in (CI, RELEASE) for _, step in steps(workflow) if "uses" in step
    }
    for workflow in (CI, RELEASE):
        for _, step in steps(workflow):
            if "uses" in step:
                name, version = step["uses"].split("@")
                used[name].add(version)
    assert {name: versions for name, versions in used.items() if len(versions) > 1} == {}


def test_releases_are_published_without_a_password():
    publish = RELEASE["jobs"]["publish"]
    assert publish["environment"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert not [step for _, step in steps(RELEASE) if "password" in step.get("with", {})]
    assert not [step for _, step in steps(RELEASE) if step.get("uses", "").startswith("pypa/") and _ == "build"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_is_valid_and_complete(path):
    text = path.read_text()
    assert isinstance(yaml.safe_load(text), dict)
    assert not re.search(r"TODO|FIXME|XXX|<[a-z_-]+>|\{\{ ?cookiecutter|example\.(com|org)", text)


def test_issue_forms_ask_for_something():
    forms = [path for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml") if path.name != "config.yml"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form.keys() >= {"name", "description", "body"}
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert any(field.get("validations", {}).get("required") for field in fields)


def test_version_and_authors_agree_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors"}
    assert citation["version"] == PROJECT["version"] == ipar.__version__
    released = re.search(r"^## \[(\d[^]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert (citation["version"], str(citation["date-released"])) == released.groups()
    assert citation["authors"] == zenodo["creators"] == PROJECT["authors"]
    assert citation["license"] == zenodo["license"] == PROJECT["license"]
    assert citation["keywords"] == zenodo["keywords"] == PROJECT["keywords"]
    assert citation["abstract"] == zenodo["description"] == PROJECT["description"]
    assert citation["title"] == zenodo["title"] == PROJECT["name"]


def test_every_dependency_has_a_lower_bound():
    every = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert [name for name in every if ">=" not in name] == []


def test_warnings_are_errors_wherever_ipar_or_a_library_is_to_blame():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    first, *exceptions = options["filterwarnings"]
    assert first == "error"
    for exception in exceptions:  # of a kind and a place, or one message of a library
        _, message, category, *module = exception.split(":")
        assert message or (category, *module) == ("UserWarning", r".*\btests\b")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CODE_OF_CONDUCT.md"])
def test_links_of_root_pages_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text())
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_readme_command_lines_are_understood():
    lines = [line for block in code_blocks(README, "bash") for line in block.splitlines() if line.startswith("ipar ")]
    commands = [_parser().parse_args(shlex.split(line, comments=True)[1:]).command for line in lines]
    assert set(commands) == {"demo", "fit", "predict", "evaluate"}


@pytest.mark.parametrize(
    "name", [f"{module}.{public}" for module in PUBLIC for public in importlib.import_module(f"ipar.{module}").__all__]
)
def test_api_lists_every_public_name(name):
    assert re.search(rf"^ +{re.escape(name)}$", API, flags=re.MULTILINE), f"docs/api has no line {name!r}"


@pytest.mark.parametrize("name", sorted(set(ipar.__all__) - {"settings"}))
def test_api_covers_every_module(name):
    assert re.search(rf"^ +(ipar\.)?{name}(\.\w+)?$", API, flags=re.MULTILINE), f"docs/api lists nothing of {name!r}"


def test_every_setting_is_documented_with_its_variable():
    page = (ROOT / "docs" / "api" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, flags=re.MULTILINE))
    assert rows == _VARIABLES
    assert rows.keys() == {one.name for one in fields(Settings)}


def test_prose_names_only_what_exists():
    named = {found for text in PROSE for found in re.findall(r"\bipar\.([a-z]+)\.([A-Za-z_]\w*)", text)}
    modules = {
        module: importlib.import_module(f"ipar.{module}")
        for module in set(ipar.__all__) - {"IGA", "IPALite", "load", "settings"}
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
