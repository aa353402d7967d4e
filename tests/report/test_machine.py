"""Which runs are from the same machine."""

import re
from pathlib import Path

import pytest
from report_runs import benchmark, gpu_machine, machine, pair, run, save

from gptloop.report.errors import ReportError
from gptloop.report.runs import read_runs


def test_a_gpu_run_names_its_gpu(tmp_path):
    save(tmp_path, run(benchmark(device="cuda"), machine=gpu_machine() | {"gpu": None}))
    with pytest.raises(ReportError, match=r"'gpu' = null"):
        read_runs(tmp_path)


def fingerprints(folder: Path, *machines: dict) -> list[str]:
    for i, facts in enumerate(machines, 1):
        save(folder, run(*pair(device=facts["device"]), machine=facts), f"one-folder/{i:04}_run.json")
    return read_runs(folder)["fingerprint"].unique().tolist()


@pytest.mark.parametrize(
    "other",
    [
        machine(cpu="another CPU"),
        machine(threads=4),
        machine(versions=machine()["versions"] | {"torch": "2.14.0"}),
        gpu_machine(),
    ],
)
def test_runs_of_one_folder_are_of_two_machines_if_their_facts_differ(tmp_path, other):
    assert len(fingerprints(tmp_path, machine(), other)) == 2


def test_a_driver_tells_gpu_runs_apart_and_leaves_cpu_runs_alone(tmp_path):
    assert len(fingerprints(tmp_path / "gpu", gpu_machine(), gpu_machine() | {"driver": "580.1"})) == 2
    assert len(fingerprints(tmp_path / "cpu", machine(), machine(gpu="NVIDIA H200", driver="580.1"))) == 1


def test_the_version_of_gptloop_is_what_is_measured_and_no_part_of_the_machine(tmp_path):
    newer = machine(versions=machine()["versions"] | {"gptloop": "0.2.0"})
    assert len(fingerprints(tmp_path, machine(), newer)) == 1


def test_the_folder_is_no_part_of_the_machine(tmp_path):
    save(tmp_path, run(*pair()), "here/0001_run.json")
    save(tmp_path, run(*pair()), "there/0001_run.json")
    assert read_runs(tmp_path)["fingerprint"].nunique() == 1


def test_a_fingerprint_is_a_short_name_for_a_file(tmp_path):
    (name,) = fingerprints(tmp_path, gpu_machine())
    assert re.fullmatch(r"cuda-nvidia-h200-[0-9a-f]{8}", name)


@pytest.mark.parametrize("name", ["\ud800x", "torch\n## A heading", ""])
def test_the_name_of_a_version_is_printable(tmp_path, name):
    save(tmp_path, run(*pair(), machine=machine(versions=machine()["versions"] | {name: "1"})))
    with pytest.raises(ReportError, match=r"versions has the name '.*', expected printable text"):
        read_runs(tmp_path)
