"""The scripts of the jobs that gate, run as GitHub runs them: they end as the gate does, and green is a pass."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
GPU, SPEED, COMMENT = (ROOT / ".github" / "workflows" / name for name in ("gpu.yml", "speed.yml", "speed-comment.yml"))

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here")


def script_of(file: Path, name: str) -> str:
    jobs = YAML(typ="safe").load(file)["jobs"].values()
    (script,) = (step["run"] for job in jobs for step in job["steps"] if step.get("name") == name)
    return script


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def github(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    environment = os.environ | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def gpu_job(tmp_path):
    """Runs the GPU job's step that reports, with programs that say how they were called and end as they are told."""
    (tmp_path / "reports").mkdir()

    def run(*statuses: int, again: bool = False) -> tuple[int, list[str], str, str]:
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        verdicts = json.dumps({"measure_again": again}, indent=1)
        program(
            tmp_path / ".venv" / "bin" / "python",
            f"echo \"python $*\" >> called; echo '{verdicts}' > reports/verdicts.json\n"
            "status=$(head -1 statuses); sed -i 1d statuses; exit $status",
        )
        program(tmp_path / ".venv" / "bin" / "pytest", 'echo "pytest $*" >> called')
        job = tmp_path / "summary.md"
        job.touch()
        done = github(script_of(GPU, "Report and gate"), tmp_path, GITHUB_STEP_SUMMARY=str(job))
        return done.returncode, (tmp_path / "called").read_text().splitlines(), done.stdout, job.read_text()

    return run


GATED = (
    "python -m gptloop.report reports/ --fail-on-regression --junit reports/junit.xml --baseline "
    "reports/gpu-baseline.json --budgets benchmarks/gate/gpu_budgets.toml"
)
MEASURED = "pytest benchmarks --grid gpu --benchmark-autosave"


@pytest.mark.parametrize(
    ("statuses", "again", "code", "called"),
    [
        ([0], False, 0, [GATED]),
        ([1], False, 1, [GATED]),
        ([2], False, 2, [GATED]),  # another machine, say: another run would be no wiser
        ([2, 0], True, 0, [GATED, MEASURED, GATED]),
        ([2, 1], True, 1, [GATED, MEASURED, GATED]),
        ([2, 2], True, 2, [GATED, MEASURED, GATED]),  # measured again once, and no more
    ],
)
def test_the_gpu_job_ends_as_the_gate_does_and_measures_again_once(gpu_job, tmp_path, statuses, again, code, called):
    (tmp_path / "reports" / "gpu-baseline.json").write_text("{}")
    assert gpu_job(*statuses, again=again) == (code, called, "", "")


def test_without_a_gpu_baseline_nothing_was_judged_and_that_is_no_pass(gpu_job):
    code, called, printed, job = gpu_job(0)
    assert code == 2
    assert re.search(r"::error::No GPU baseline .* reported, not judged. That is not a pass", printed)
    assert called == ["python -m gptloop.report reports/"]
    assert "reported, not judged" in job


@pytest.mark.parametrize(
    ("status", "words"), [(0, ""), (1, "::error::slower"), (2, "::error::the gate could not judge")]
)
def test_the_speed_job_is_green_for_a_pass_only(tmp_path, status, words):
    program(tmp_path / "bin" / "python", f'echo "python $*"; exit {status}')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = github(script_of(SPEED, "Change against base"), tmp_path, PATH=path, BASE="abc")
    assert done.returncode == status, done.stderr
    asked = (
        "--base abc --output gate/change.json --markdown gate/comment.md --html gate/change.html --junit gate/junit.xml"
    )
    assert f"python -m benchmarks.change {asked}\n" in done.stdout
    assert words in done.stdout
    assert ("::error::" in done.stdout) == (status != 0)


FAKE_GH = """
echo "$*" >> calls
case "$*" in
    *"/pulls -f state=open"*) cat pulls.json ;;
    "run download"*) mkdir -p gate && [ -f artifact.md ] && cp -P artifact.md gate/comment.md ;;
    *--paginate*) cat comments.json ;;
    *"--input request.json"*) cp request.json sent.json ;;
esac
"""


@pytest.fixture
def comment(tmp_path):
    """Runs the job that comments, with a `gh` that answers from files: what it sent, and how it was called."""

    def run(artifact: str | None = "all is well", comments=(), head: str = "c0ffee", **variables: str):
        program(tmp_path / "bin" / "gh", FAKE_GH)
        (tmp_path / "pulls.json").write_text(json.dumps([{"number": 7, "head": {"sha": head}}]))
        (tmp_path / "comments.json").write_text("".join(json.dumps([one]) for one in comments))
        if artifact is not None:
            (tmp_path / "artifact.md").write_text(artifact)
        facts = {"REPOSITORY": "me/gptloop", "RUN": "42", "RUN_URL": "https://example.org/42", "CONCLUSION": "failure"}
        facts |= {
            "COMMIT": "c0ffee",
            "OWNER": "fork",
            "BRANCH": "topic",
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        }
        done = github(script_of(COMMENT, "Write the comment"), tmp_path, **(facts | variables))
        assert done.returncode == 0, done.stderr
        sent = tmp_path / "sent.json"
        calls = (tmp_path / "calls").read_text().splitlines()
        return (json.loads(sent.read_text())["body"] if sent.exists() else None), calls

    return run


MARK = "<!-- gptloop regression gate -->"
BOT = {"login": "github-actions[bot]"}


@needs_jq
def test_the_first_comment_is_written_and_the_next_run_replaces_it(comment):
    body, calls = comment()
    assert body.startswith(f"{MARK}\nGate of c0ffee: **failure** ([run](https://example.org/42))")
    assert body.rstrip().endswith("all is well")
    assert "--method POST repos/me/gptloop/issues/7/comments" in calls[-1]
    others = [
        {"id": 1, "user": {"login": "someone"}, "body": f"{MARK} not the bot's"},
        {"id": 2, "user": BOT, "body": "of another workflow"},
        {"id": 3, "user": BOT, "body": f"{MARK} of before"},
    ]
    _, calls = comment(comments=others)
    assert "--method PATCH repos/me/gptloop/issues/comments/3 " in calls[-1]


@needs_jq
def test_a_run_without_a_result_does_not_leave_the_comment_of_before(comment):
    body, _ = comment(artifact=None, comments=[{"id": 3, "user": BOT, "body": f"{MARK} green"}])
    assert "ended before it could judge. That is not a pass" in body


@needs_jq
def test_a_pull_request_that_has_moved_on_gets_no_comment(comment):
    body, calls = comment(head="another")
    assert body is None
    assert len(calls) == 1


@needs_jq
def test_what_a_fork_names_is_text(comment, tmp_path):
    """Its branch, its file: no command runs, nobody is mentioned, and GitHub's limit is kept."""
    hostile = "$(touch ran) `touch ran` ; touch ran"
    body, _ = comment(artifact=f"{hostile} @everyone " + "x" * 100_000, BRANCH=hostile)
    assert hostile in body
    assert "@" not in body
    assert len(body) < 65_536
    assert not (tmp_path / "ran").exists()
