"""The CI files: valid by GitHub's own schema, calling what the README calls, and plain where nothing is judged."""

import configparser
import os
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
GPU, CI, SPEED = (ROOT / ".github" / "workflows" / name for name in ("gpu.yml", "ci.yml", "speed.yml"))
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
    assert [line.split()[-1] for line in script.splitlines() if line.startswith(".venv/bin/tox ")] == [
        "lint",
        "smoke",
        "tests",
    ]


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


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_read_and_leaves_no_token_on_disk(file):
    workflow = load(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_actions_are_pinned_by_commit_with_the_version_beside_it():
    """One commit for each action, whichever workflow uses it."""
    uses = [line.split("uses: ")[1] for file in WORKFLOWS for line in file.read_text().splitlines() if "uses: " in line]
    assert len(uses) == sum("uses" in step for file in WORKFLOWS for step in steps(file))
    for use in uses:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
    assert len({use.split("@")[0] for use in uses}) == len(set(uses))


@pytest.fixture
def report_step(tmp_path):
    """Runs the GPU job's step that reports, with a python that only says how it was called, and exits as it is told."""
    (script,) = (step["run"] for step in steps(GPU) if step.get("name") == "Report and gate")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "reports").mkdir()

    def run(status: int) -> tuple[int, str, str]:
        python.write_text(f'#!/bin/sh\necho "python $*"\nexit {status}\n')
        python.chmod(0o755)
        job = tmp_path / "summary.md"
        job.touch()
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub runs it
        environment = os.environ | {"GITHUB_STEP_SUMMARY": str(job)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, job.read_text()

    return run


@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_gpu_job_ends_as_the_gate_does(report_step, tmp_path, status):
    (tmp_path / "reports" / "gpu-baseline.json").write_text("{}")
    where = "--baseline reports/gpu-baseline.json --budgets benchmarks/gate/gpu_budgets.toml"
    called = f"python -m gptloop.report reports/ --fail-on-regression {where}\n"
    assert report_step(status) == (status, called, "")


def test_the_gpu_jobs_cases_are_of_the_grid_that_it_measures():
    gated = read_budgets(ROOT / "benchmarks" / "gate" / "gpu_budgets.toml").cases
    assert gated
    assert set(gated) <= {f"{case.group} {contender}" for case in GPU_GRID for contender in case.contenders}


def test_without_a_gpu_baseline_the_job_says_that_nothing_was_judged(report_step):
    status, printed, job = report_step(0)
    assert status == 0
    assert re.search(r"::warning::No GPU baseline .* reported, not judged", printed)
    assert "python -m gptloop.report reports/\n" in printed
    assert "reported, not judged" in job


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 1), (2, 0)])
def test_the_speed_job_fails_on_a_regression_and_warns_of_what_cannot_be_judged(tmp_path, status, ends_with):
    workflow = load(SPEED)
    (job,) = workflow["jobs"].values()
    assert job["if"] == "contains(github.event.pull_request.labels.*.name, 'speed')"
    (script,) = (step["run"] for step in job["steps"] if step.get("name") == "Change against base")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "python $*"\nexit {status}\n')
    python.chmod(0o755)
    summary = tmp_path / "summary.md"
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "BASE": "abc", "GITHUB_STEP_SUMMARY": str(summary)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends_with, done.stderr
    assert summary.read_text() == "python -m benchmarks.change --base abc --output change.json\n"
    assert ("::warning::" in done.stdout) == (status == 2)
