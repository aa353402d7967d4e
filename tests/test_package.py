"""The package from outside: its names, and what importing each part costs."""

import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import gptloop


def run(script: str, *arguments) -> str:
    """Run a script in a fresh interpreter; its output."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(statement: str) -> set[str]:
    """The top-level packages that a statement imports."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(run(script).split())


def version_of(requirement: Requirement, operator: str) -> Version:
    (only,) = requirement.specifier
    assert only.operator == operator
    return Version(only.version)


def test_the_public_names_are_three():
    assert gptloop.__all__ == ["OnnxLoop", "TorchLoop", "export"]
    for name in gptloop.__all__:
        assert getattr(gptloop, name).__name__ == name
        assert getattr(gptloop, name).__doc__


def test_both_loops_take_the_same_call():
    import inspect  # noqa: PLC0415  (gptloop has one, too)

    onnx_call, torch_call = (inspect.signature(loop.generate) for loop in (gptloop.OnnxLoop, gptloop.TorchLoop))
    parameters = dict(onnx_call.parameters)
    # OnnxLoop's own: the reference starts at the prompt and runs to its end.
    for name in ("prefix", "timeout_s"):
        assert parameters.pop(name).default is None
    assert onnx_call.replace(parameters=[*parameters.values()]) == torch_call
    names = list(parameters)
    # Hugging Face's names; seed and return_logprobs are ours.
    assert names == [
        "self",
        "input_ids",
        "max_new_tokens",
        "attention_mask",
        "num_return_sequences",
        "first_candidate",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "no_repeat_ngram_size",
        "sequence_bias",
        "bad_words_ids",
        "suppress_tokens",
        "min_new_tokens",
        "seed",
        "eos_token_id",
        "stop_sequences",
        "pad_token_id",
        "return_logprobs",
    ]


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gptloop' has no attribute 'OnxLoop'"):
        _ = gptloop.OnxLoop


def test_importing_the_package_imports_nothing_else():
    assert not imported_by("import gptloop") & {"numpy", "onnx", "onnxruntime", "torch", "transformers"}


def test_the_graph_is_authored_without_torch():
    assert not imported_by("import gptloop.graph") & {"torch", "transformers", "onnxruntime", "pandas"}


def test_an_exported_file_runs_without_torch_transformers_or_onnxscript(tiny):
    """They are not even looked for: importing one of them would fail here."""
    script = """
import sys
sys.modules |= {"torch": None, "transformers": None, "onnxscript": None, "onnx_ir": None, "pandas": None}
import gptloop
tokens = gptloop.OnnxLoop(sys.argv[1], device="cpu").generate([[1, 2, 3]], max_new_tokens=4)
print(tokens.tolist())
"""
    assert run(script, tiny.path) == f"{tiny.onnx.generate([[1, 2, 3]], max_new_tokens=4).tolist()}\n"


def test_the_runtime_and_the_report_load_without_torch():
    heavy = {"torch", "transformers", "onnxscript", "onnx_ir", "safetensors"}
    assert "onnxruntime" in (runtime := imported_by("import gptloop; gptloop.OnnxLoop"))
    assert not runtime & (heavy | {"pandas"})
    assert "pandas" in (report := imported_by("import gptloop.report.__main__"))
    assert not report & (heavy | {"onnx", "onnxruntime"})


def test_the_oldest_versions_allowed_are_those_that_the_tests_are_run_with():
    """`tox -e lowest` installs constraints-lowest.txt. OpenVINO is left out there: who has it brings its own."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = map(Requirement, project["dependencies"] + extras["cpu"] + extras["test"])
    lines = (root / "constraints-lowest.txt").read_text().splitlines()
    pins = map(Requirement, (line for line in lines if not line.startswith("#")))
    installed = {canonicalize_name(pin.name): version_of(pin, "==") for pin in pins}
    oldest = {canonicalize_name(one.name): version_of(one, ">=") for one in allowed if one.name != "openvino"}
    assert {name: installed.get(name) for name in oldest} == oldest


def test_the_package_is_typed_and_knows_its_version():
    assert resources.files(gptloop).joinpath("py.typed").is_file()
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{metadata.version("gptloop")}"\n' in project
