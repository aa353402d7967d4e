"""The CI files: valid by GitHub's own schema, calling what the README calls, and plain where nothing is judged."""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.cases import GPU_GRID
from gptloop.report.budgets import read_budgets

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
NAMES = ("gpu.yml", "ci.yml", "speed.yml", "speed-comment.yml")
GPU, CI, SPEED, COMMENT = (ROOT / ".github" / "workflows" / name for name in NAMES)
# The second one demands a timeout of every job.
SCHEMAS = ("vendor.github-workflows", "custom.github-workflows-require-timeout")


def check(schema: str, file: Path) -> subprocess.CompletedProcess:
    """Offline: the package ships the schemas."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def load(file: Path) -> dict:
    return YAML(typ="safe").load(file)


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def steps(file: Path) -> list[dict]:
    return [step for job in load(file)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_is_valid_by_githubs_schema(file, schema):
    done = check(schema, file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "line", "instead"),
    [
        (SCHEMAS[0], "runs-on:", "run-on:"),
        (SCHEMAS[0], "pull_request:", "pull_requests:"),
        (SCHEMAS[1], "timeout-m", "x-m"),
    ],
)
def test_the_schema_sees_what_is_wrong(tmp_path, schema, line, instead):
    text = CI.read_text()
    assert line in text
    (tmp_path / "ci.yml").write_text(text.replace(line, instead))
    assert check(schema, tmp_path / "ci.yml").returncode == 1


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_its_scripts_are_bash(file):
    scripts = [step["run"] for step in steps(file) if "run" in step]
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_ci_runs_the_readmes_test_command():
    command = "tox -e tests"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()
    assert "bash .ci/run" in [step.get("run") for step in steps(CI)]


def test_a_commit_is_held_to_what_lint_runs():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    commands = tox["testenv:lint"]["commands"].strip().splitlines()
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # so that nothing is downloaded
    assert [hook["entry"] for hook in repository["hooks"]] == commands
    assert not any(hook["pass_filenames"] for hook in repository["hooks"])
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["lint"]
    named = " ".join(lint).replace("import-linter", "lint-imports")
    assert all(command.split()[0] in named for command in commands)


def test_ci_lints_and_tests():
    script = (ROOT / ".ci" / "run").read_text()
    environments = [line.split()[-1] for line in script.splitlines() if line.startswith(".venv/bin/tox ")]
    assert environments == ["checks", "tests"]
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    commands = tox["testenv:checks"]["commands"].split()
    assert commands == ["{[testenv:lint]commands}", "{[testenv:smoke]commands}"]


def test_ci_runs_every_python_from_the_oldest_supported_one_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = load(CI)["jobs"]["test"]["strategy"]["matrix"]["python"]
    minors = [int(version.removeprefix("3.")) for version in pythons]
    assert project["requires-python"] == f">={pythons[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert {f"Programming Language :: Python :: {version}" for version in pythons} <= set(project["classifiers"])


def test_the_gpu_is_used_only_by_who_may_write_to_the_repository():
    workflow = load(GPU)
    assert workflow["on"] == {
        "push": {"branches": ["main", "gpu/**"]},
        "schedule": [{"cron": "17 3 * * 1"}],
        "workflow_dispatch": None,
    }
    (job,) = workflow["jobs"].values()
    assert "self-hosted" in job["runs-on"]
    assert job["environment"] == "gpu"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_machine_of_our_own_is_used_by_no_pull_request(file):
    """A fork's pull request, an issue or a comment brings code of anybody."""
    workflow = load(file)
    machines = [label for job in workflow["jobs"].values() for label in as_list(job["runs-on"])]
    if set(machines) != {"ubuntu-latest"}:
        assert set(workflow["on"]) <= {"push", "schedule", "workflow_dispatch"}


@pytest.mark.parametrize("file", sorted(set(WORKFLOWS) - {COMMENT}), ids=lambda file: file.name)
def test_a_workflow_may_read_and_leaves_no_token_on_disk(file):
    workflow = load(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_may_write_a_comment_runs_nothing_of_a_pull_request_and_may_do_nothing_else():
    workflow = load(COMMENT)
    assert workflow["on"] == {"workflow_run": {"workflows": [load(SPEED)["name"]], "types": ["completed"]}}
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert not any("uses" in step for step in job["steps"])  # no checkout, nobody else's code
    assert not any("${{" in step["run"] for step in job["steps"])  # what a fork may name comes in variables only


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_workflow_has_a_forks_pull_request_run_with_rights(file):
    assert "pull_request_target" not in load(file)["on"]


def test_actions_are_pinned_by_commit_with_the_version_beside_it():
    """One commit for each action, whichever workflow uses it."""
    uses = [line.split("uses: ")[1] for file in WORKFLOWS for line in file.read_text().splitlines() if "uses: " in line]
    assert len(uses) == sum("uses" in step for file in WORKFLOWS for step in steps(file))
    for use in uses:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
    assert len({use.split("@")[0] for use in uses}) == len(set(uses))


def test_the_gpu_jobs_cases_are_of_the_grid_that_it_measures():
    gated = read_budgets(ROOT / "benchmarks" / "gate" / "gpu_budgets.toml").cases
    assert gated
    assert set(gated) <= {f"{case.group} {contender}" for case in GPU_GRID for contender in case.contenders}
