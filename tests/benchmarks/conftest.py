"""The files that contenders read, of the tiny model, and the gate's command on given pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from given_pairs import BUDGETS, COMMIT, PEAK, PROFILES

if TYPE_CHECKING:
    from benchmarks.contenders import Files


@pytest.fixture(scope="session")
def files(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint and both exports; contenders put their own files beside them."""
    from benchmarks.contenders import Files  # noqa: PLC0415  (most tests here do without torch and ONNX Runtime)
    from gptloop import export  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("contenders")
    tiny.model.save_pretrained(folder / "tiny")
    files = Files.of("tiny", folder, folder / "tiny", "random, seed 0")
    export(files.checkpoint, files.onnx)
    export(files.checkpoint, files.onnx_int8, precision="int8")
    return files


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the gate's command on pairs that are given, not measured, as many goes as it asks for."""
    from benchmarks.command.ending import run  # noqa: PLC0415
    from benchmarks.gate import change, comparison  # noqa: PLC0415

    def call(*goes, lacking=None, peak=PEAK, options=()) -> int:
        count = len(goes[0])
        given = iter([pair for go in goes for pair in go])
        monkeypatch.setattr(comparison, "prepare", lambda *_: lacking or {})
        monkeypatch.setattr(comparison, "measure_pair", lambda *_: next(given))
        monkeypatch.setattr(comparison, "measure_peaks", lambda *_: peak)
        monkeypatch.setattr(comparison, "commit_info", lambda *_: COMMIT)
        monkeypatch.setattr(comparison, "profile_case", lambda *_: PROFILES)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / call.step))
        (tmp_path / "b.toml").write_text(call.budgets)
        where = ["--budgets", tmp_path / "b.toml", "--output", tmp_path / call.output, "--calibrations", tmp_path]
        how = ["--processes", str(count), *options] if count else options
        return run("benchmarks.change", lambda: change.main(["--base", "HEAD", *map(str, where), *how]))

    call.step, call.output, call.budgets = "step.md", "out.json", BUDGETS
    return call
