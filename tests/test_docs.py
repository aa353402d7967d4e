"""The documents: links and paths lead somewhere, examples run, and every argument and option is written down."""

import ast
import contextlib
import importlib
import inspect
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import gptloop
from gptloop.checkpoint import seeded
from gptloop.cli import main

ROOT = Path(__file__).parents[1]
README, USAGE = ROOT / "README.md", ROOT / "docs" / "usage.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ("gptloop", "benchmarks", "tests", "docs", "deploy", "web", "reports", ".github", ".ci")
# What a command that stands beside the name writes.
WRITTEN = {
    "reports/gpu-baseline.json",
    "reports/change.json",
    "reports/gpu/*.json",
    "gptloop/web/page",
    "web/example.mjs",
}
README_LINES = 180

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


def links(document: Path) -> list[str]:
    """Targets of links and images, those on other sites left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text(encoding="utf-8")))
    return [target for target in found if not re.match(r"https?://", target)]


@cache
def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(document.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(document: Path) -> list[str]:
    """The words of code, inline and of the console."""
    text = document.read_text(encoding="utf-8")
    console = re.findall(r"^\$ (.*?)(?:  # .*)?$", text, flags=re.M)
    inline = re.findall(r"`([^`\n]+)`", without_blocks(text))
    return [word.strip("(),;:'\"") for piece in console + inline for word in piece.split()]


def definitions(module: Path) -> set[str]:
    """The names that a module itself gives to something, at any depth: what it imports is defined elsewhere."""
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    named = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return named | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def section(document: Path, heading: str) -> str:
    """The text under a heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", document.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{document.name} has no heading {heading!r}"
    return found[1]


def first_column(text: str) -> list[str]:
    """What the first column of the tables has in backticks."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def test_the_readme_is_read_in_three_minutes():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document):
    for target in links(document):
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{document.name}: {target}"


@each_document
def test_every_path_in_code_is_in_the_repository(document):
    labels = re.findall(r"\[([^\]\s]+)\]\(", document.read_text(encoding="utf-8"))
    paths = [word for word in code(document) + labels if word.startswith(tuple(f"{folder}/" for folder in FOLDERS))]
    for path in set(paths) - WRITTEN:
        assert list(ROOT.glob(path)) or ROOT.joinpath(f"{path}.py").exists(), f"{document.name}: {path}"


@each_document
def test_what_is_said_to_be_in_a_module_is_there(document):
    """`name` ([module](...)) and `name` of or in [module](...)."""
    text = " ".join(without_blocks(document.read_text(encoding="utf-8")).split())
    for names, target in re.findall(r"((?:`[\w.]+`[ ,and]*)+) ?(?:\(|of |in )\[[^\]]*\]\(([^)]+\.py)\)", text):
        defined = definitions(document.parent / target)
        for name in re.findall(r"`([\w.]+)`", names):
            assert defined.issuperset(name.split(".")), f"{document.name}: {name} in {target}"


@each_document
def test_every_dotted_name_in_code_can_be_imported(document):
    for name in {word for word in code(document) if re.fullmatch(r"(gptloop|benchmarks)(\.\w+)+", word)}:
        found, parts = None, name.split(".")
        for end in range(len(parts), 0, -1):
            with contextlib.suppress(ModuleNotFoundError):
                found = importlib.import_module(".".join(parts[:end]))
                break
        for attribute in parts[end:]:
            found = getattr(found, attribute)


def test_every_document_is_linked_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    assert set(DOCUMENTS) - {README} <= linked


def test_the_checks_of_documents_see_what_is_wrong(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](#a-b-c) [y](no.md#z)\n`gptloop/no.py`, `[z](w)`\n```text\n# no [v](u)\n```\n")
    assert anchors(page) == {"a-b-c"}
    assert links(page) == ["#a-b-c", "no.md#z"]
    assert "gptloop/no.py" in code(page)
    module = tmp_path / "module.py"
    module.write_text("from a import b\nc: int = 1\nclass D:\n    def e(self): f(c)\n")
    assert definitions(module) == {"c", "D", "e"}


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)) - {"-h", "--help"}


@pytest.mark.parametrize("command", ["export", "generate", "bench", "evaluate", "inspect", "serve-config", "web"])
def test_every_option_of_a_command_is_documented_and_no_other(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # so that no option is broken in two
    with pytest.raises(SystemExit):
        main([command, "--help"])
    documented = " ".join(first_column(section(USAGE, f"gptloop {command}")))
    assert options(documented) == options(capsys.readouterr().out)


def test_every_option_of_batch_is_documented_and_no_other(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["batch", "--help"])
    documented = " ".join(first_column(section(ROOT / "docs" / "batch.md", "Options")))
    assert options(documented) == options(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("heading", "function"),
    [
        ("gptloop.export", gptloop.export),
        ("gptloop.OnnxLoop", gptloop.OnnxLoop),
        ("generate", gptloop.OnnxLoop.generate),
    ],
)
def test_every_argument_is_documented_in_its_table(heading, function):
    named = [line.split("`")[1] for line in section(USAGE, heading).splitlines() if line.startswith("| `")]
    assert set(named) == set(inspect.signature(function).parameters) - {"self"}


def test_the_signature_in_the_text_is_the_real_one():
    text = " ".join(USAGE.read_text(encoding="utf-8").split())
    for function in (gptloop.export, gptloop.OnnxLoop, gptloop.TorchLoop):
        parameters = inspect.signature(function).parameters.values()
        bare = [p.replace(annotation=p.empty) for p in parameters]
        shown = str(inspect.Signature(bare)).replace("'", '"')
        assert f"`gptloop.{function.__name__}{shown}`" in text


@pytest.fixture
def folder_with_gpt2(tiny_model, tmp_path, monkeypatch):
    """A working directory with a tiny checkpoint of gpt2's vocabulary, in the place of the hub's."""
    tiny_model(n_layer=1, n_embd=4, n_head=2, vocab_size=50257).save_pretrained(tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)


def test_the_python_examples_run_and_agree(folder_with_gpt2):
    (readme,) = blocks(README.read_text(encoding="utf-8"), "python")
    stream, prefix, runtime = blocks(USAGE.read_text(encoding="utf-8"), "python")
    ours, others = {}, {}
    exec(readme, ours)
    exec(stream, ours)
    exec(prefix, ours)
    exec(runtime, others)
    assert ours["tokens"].shape == (5, 20)
    assert [piece.shape for piece in ours["pieces"]] == [(5, 8), (5, 8), (5, 4)]
    assert np.concatenate(ours["pieces"], axis=1).tolist() == ours["tokens"].tolist()
    whole = [[464, 3139, 286, 4881, 318], [464, 3139, 286, 9486, 318]]
    assert ours["answers"].tolist() == ours["loop"].generate(whole, max_new_tokens=10).tolist()
    assert others["tokens"].reshape(5, 20).tolist() == ours["tokens"].tolist()


def test_the_readmes_command_lines_run(trained, tmp_path, monkeypatch, capsys):
    (tmp_path / "gpt2").symlink_to(trained.directory)
    (tmp_path / "wiki.txt").write_text(trained.text)
    monkeypatch.setitem(seeded.SIZES, "gpt2", {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31})
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^\$ gptloop (.*)$", README.read_text(encoding="utf-8"), flags=re.M)
    assert len(lines) == 8
    for line in lines:
        assert main(shlex.split(line, comments=True)) == 0, capsys.readouterr().err


@each_document
def test_a_document_names_no_machine_of_its_authors(document):
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root|opt)/", text)


def test_what_the_packages_map_names_exists():
    """The tree in docs/architecture.md: each name below the folders around it."""
    (tree,) = blocks((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "text")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    around: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        around[depth:] = [name]
        path = ROOT / "".join(around)
        assert path.exists() or path.with_name(f"{name}.py").exists(), path
    if tracked:  # not in an unpacked archive
        rooms = {path.split("/")[1] for path in tracked.splitlines() if re.match(r"gptloop/\w+(/|\.py)", path)}
        named = {re.sub(r"/$", "", line.split()[0]) for line in tree.split("benchmarks/")[0].splitlines()[1:]}
        assert {room for room in rooms if room.removesuffix(".py") not in named} <= named
