"""The suite in pytest: options, the grid as parameters, models on disk, progress, and the machine's facts."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import GPT2Config

from benchmarks import machine
from benchmarks.cases import Case, grid
from benchmarks.command.checkout import ROOT, saved_commit_info
from benchmarks.contenders import KINDS, Files
from benchmarks.measuring.measure import measure
from benchmarks.measuring.measurement import Measurement, Say
from gptloop import export
from gptloop.checkpoint.hub import download
from gptloop.checkpoint.seeded import random_model
from gptloop.report.checkout import SAFE, settings_in_environment
from gptloop.values import shown

COMMIT = pytest.StashKey[dict[str, Any]]()
NOT_MEASURED = (
    "nothing is measured: pytest-benchmark is off, by --benchmark-disable or because pytest-xdist (-n) runs tests "
    "beside each other, where each slows the others"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gptloop")
    group.addoption(
        "--grid",
        choices=("auto", "cpu", "full", "long", "gpu"),
        default="auto",
        help="cases to run: cpu ends within 15 minutes on two cores, full is every size under every workload; "
        "long is hundreds of new tokens; gpu is for a GPU, in fp16; auto is gpu where there is one, else cpu "
        "(default: auto)",
    )
    group.addoption(
        "--peers", action="store_true", help="add CTranslate2, OpenVINO and JAX, which the extra peers installs"
    )
    group.addoption(
        "--contenders",
        type=_contenders,
        default=(),
        metavar="NAMES",
        help="of each case only these, separated by commas; the baseline is one in any case",
    )
    group.addoption("--threads", type=int, help="threads of one product, for every contender (default: torch's choice)")
    group.addoption("--pretrained", action="store_true", help="published weights from the hub instead of seeded ones")
    group.addoption("--xl", action="store_true", help="add gpt2-xl, 6.2 GB of weights for each contender")


def _contenders(names: str) -> tuple[str, ...]:
    """Of an option; those that no grid has are refused."""
    given = tuple(name.strip() for name in names.split(","))
    if unknown := [name for name in given if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(KINDS)}, got {shown(unknown[0])}")
    return given


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(settings_in_environment(SAFE))  # for pytest-benchmark, which calls git as well
    config.stash[COMMIT] = saved_commit_info(ROOT)
    if (threads := config.getoption("--threads")) is not None:
        if threads < 1:
            raise pytest.UsageError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)  # which machine.facts() reads


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contender" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    parameters = [
        pytest.param(case, name, id=f"{case.size}-{case.workload.id}-{name}", marks=[pytest.mark.smoke] * case.smoke)
        for case in grid(
            option("--grid"),
            has_gpu=machine.has_gpu(),
            xl=option("--xl"),
            peers=option("--peers"),
            only=option("--contenders"),
        )
        for name in case.runs
    ]
    metafunc.parametrize(("case", "contender"), parameters)


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_generate_machine_info() -> Generator[None, Any, Any]:
    """What pytest-benchmark notes itself, as far as py-cpuinfo lets it: that raises for a CPU that it does not know."""
    try:
        return (yield)
    except Exception:  # bare ones
        names = ("node", "machine", "system", "release", "python_implementation", "python_version")
        return {name: getattr(platform, name)() for name in names} | {"cpu": {}}


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["gptloop"] = machine.facts()


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """The commit at the start; a tree that has changed by the end was measured in part only."""
    started, ended = config.stash[COMMIT], saved_commit_info(ROOT)
    return {**started, "dirty": started["dirty"] or ended["dirty"] or ended["id"] != started["id"]}


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_compare_machine_info() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ValueError:  # pytest-benchmark wants to say where the storage is below the working directory: it is not
        warnings.warn("the saved run is from another machine: its times are no measure of these", stacklevel=1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any(NOT_MEASURED in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"gptloop: {NOT_MEASURED}", yellow=True)


@pytest.fixture(autouse=True)
def skipped_where_nothing_is_measured(benchmark: BenchmarkFixture) -> None:
    if benchmark.disabled:
        pytest.skip(NOT_MEASURED)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Print one line of progress past pytest's capture."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    start = time.monotonic()

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n[{time.monotonic() - start:6.1f} s] {text}", end="", file=sys.stderr, flush=True)

    return line


class SizeOnDisk:
    """Checkpoint and exported model of one size at a time."""

    def __init__(self, folder: Path, pretrained: bool, say: Say):
        self._folder, self._pretrained, self._say = folder, pretrained, say

    def __call__(self, size: str) -> Files:
        """The size's files, made when first asked for; those of the size before it are removed."""
        checkpoint = download(size) if self._pretrained else self._folder / size
        weights = "pretrained" if self._pretrained else "random, seed 0"
        files = Files.of(size, self._folder, checkpoint, weights)
        if not files.onnx_int8.exists():
            shutil.rmtree(self._folder)
            self._folder.mkdir()
            self._say(f"{size}: {weights} weights, then export")
            if not self._pretrained:
                random_model(size).save_pretrained(checkpoint)
            export(checkpoint, files.onnx)
            export(checkpoint, files.onnx_int8, precision="int8")
        return files


@pytest.fixture(scope="session")
def files_of(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, say: Say) -> Iterator[SizeOnDisk]:
    """The files of a size, made when first asked for; the size before it is removed."""
    folder = tmp_path_factory.mktemp("models")
    yield SizeOnDisk(folder, pytestconfig.getoption("--pretrained"), say)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def measurements(request: pytest.FixtureRequest, files_of: SizeOnDisk, say: Say) -> Any:
    """Measure a case when its first contender is asked for: all selected contenders, interleaved."""
    done: dict[str, dict[str, Measurement]] = {}
    selected = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    facts = machine.facts()

    def get(case: Case) -> dict[str, Measurement]:
        if case.group not in done:
            say(f"== {case.size}, {case.workload.title} ==")
            files = files_of(case.size)
            done[case.group] = measure(
                case,
                [params["contender"] for params in selected if params.get("case") == case],
                files,
                GPT2Config.from_pretrained(files.checkpoint),
                device=facts["device"],
                threads=facts["threads"],
                say=say,
            )
        return done[case.group]

    return get
