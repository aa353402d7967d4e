"""`gptloop batch`, killed and started again: it loses nothing, repeats nothing, the bytes are as if undisturbed."""

import errno
import json
import resource
import signal
import subprocess
import sys
import time

import pytest

from gptloop import OnnxLoop
from gptloop.batch.journal import SUFFIX

SETTINGS = ("--max-new-tokens", "5", "--temperature", "1.5", "-n", "3", "--window", "8", "--seed", "7", "--no-eos")


@pytest.fixture
def whole_journal(undisturbed, batch, tmp_path, monkeypatch):
    """The journal of a run that was killed before it wrote its output."""
    from gptloop.batch import results  # noqa: PLC0415

    output = tmp_path / "results.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(results, "write", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        assert batch(undisturbed.model, undisturbed.source, "-o", output, *SETTINGS)[0] == 2
    return output.with_name(output.name + SUFFIX)


def test_cut_off_at_any_byte_it_goes_on_and_generates_what_is_missing_only(
    undisturbed, batch, whole_journal, monkeypatch
):
    content, output = whole_journal.read_bytes(), whole_journal.with_suffix("")
    calls = []
    generate = OnnxLoop.generate
    monkeypatch.setattr(OnnxLoop, "generate", lambda *a, **k: calls.append(len(a[1])) or generate(*a, **k))
    for cut in [*range(0, len(content), 2503), len(content) - 1, len(content)]:
        whole_journal.write_bytes(content[:cut])
        kept = [json.loads(line) for line in content[:cut].splitlines(keepends=True)[1:] if line.endswith(b"\n")]
        generated = sum("error" not in record for entry in kept for _, record in entry["results"])
        calls.clear()
        assert batch(undisturbed.model, undisturbed.source, "-o", output, *SETTINGS)[0] == 0
        assert output.read_bytes() == undisturbed.results
        assert sum(calls) == 25 - generated
        assert not whole_journal.exists()
        output.unlink()


def test_killed_again_and_again_it_comes_to_the_same_end(undisturbed, tmp_path):
    """With SIGKILL, each time when the journal has grown."""
    output = tmp_path / "results.jsonl"
    journal = output.with_name(output.name + SUFFIX)
    command = [sys.executable, "-m", "gptloop", "batch", undisturbed.model, undisturbed.source, "-o", output, *SETTINGS]
    killed = 0
    while not output.exists():
        size = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        while process.poll() is None and (killed == 3 or not journal.exists() or journal.stat().st_size <= size):
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        assert process.wait() in (0, -signal.SIGKILL)
    assert killed
    assert output.read_bytes() == undisturbed.results


@pytest.mark.parametrize("room", [0.3, 1.2], ids=["the journal", "the output"])
def test_a_full_disk_is_one_line_and_more_room_is_all_it_takes(undisturbed, whole_journal, room, tmp_path):
    """A limit to a file's size stands for the disk's; the output is larger than the limit, or the journal is."""
    output = tmp_path / "full.jsonl"
    journal = output.with_name(output.name + SUFFIX)
    if room > 1:  # the journal is complete, and larger than the output
        journal.write_bytes(whole_journal.read_bytes())
        room = 0.5
    limit = int(len(undisturbed.results) * room)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2);"
        "from gptloop.cli import main; sys.exit(main())"
    )
    arguments = ["batch", undisturbed.model, undisturbed.source, "-o", output, *SETTINGS]
    command = [sys.executable, "-c", script, limit, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    named = output if journal.stat().st_size > limit else journal
    words = f"[Errno {errno.EFBIG}] cannot write {named}: File too large; started again, it goes on"
    assert (done.returncode, done.stderr) == (2, f"gptloop: error: {words}\n")
    assert not output.exists()
    assert sorted(path.name for path in tmp_path.glob("full*")) == [journal.name]
    kept = journal.read_bytes()
    assert kept.endswith(b"\n")
    command[3] = resource.RLIM_INFINITY
    assert subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == 0
    assert output.read_bytes() == undisturbed.results


def test_other_settings_do_not_go_on_with_it(undisturbed, whole_journal, batch):
    content, output = whole_journal.read_bytes(), whole_journal.with_suffix("")
    code, err = batch(undisturbed.model, undisturbed.source, "-o", output, *SETTINGS, "--temperature", 2)
    assert (code, err) == (
        2,
        f"gptloop: error: {whole_journal} was begun with temperature 1.5, this is 2.0: give the same, or remove it to "
        "begin anew\n",
    )
    assert whole_journal.read_bytes() == content


def test_a_setting_that_is_missing_or_new_does_not_go_on_with_it(undisturbed, whole_journal, batch):
    content, output = whole_journal.read_bytes(), whole_journal.with_suffix("")
    run = undisturbed.model, undisturbed.source, "-o", output
    without = [option for option in SETTINGS if option not in ("--temperature", "1.5")]
    assert "begun with temperature 1.5, this is at its default: " in batch(*run, *without)[1]
    assert "begun with stop at its default, this is ['x']: " in batch(*run, *SETTINGS, "--stop", "x")[1]
    assert whole_journal.read_bytes() == content


def test_every_setting_goes_on_with_itself(undisturbed, batch, tmp_path, monkeypatch):
    """Also one whose value JSON has in another form."""
    from gptloop.batch import results  # noqa: PLC0415

    output, write = tmp_path / "results.jsonl", results.write
    settings = [*SETTINGS, "--sequence-bias", "1,2=0.5", "--bad-words-ids", "3,4", "--suppress-tokens", "5"]
    settings += ["--stop", "th", "--stop", "."]
    monkeypatch.setattr(results, "write", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    assert batch(undisturbed.model, undisturbed.source, "-o", output, *settings)[0] == 2
    monkeypatch.setattr(results, "write", write)
    assert batch(undisturbed.model, undisturbed.source, "-o", output, *settings)[0] == 0


def test_other_prompts_do_not_go_on_with_it(undisturbed, whole_journal, batch, tmp_path):
    source, output = tmp_path / "prompts.jsonl", whole_journal.with_suffix("")
    lines = undisturbed.source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join([*lines[:-1], b'{"ids": [1]}\n']))
    assert "the prompts have changed since" in batch(undisturbed.model, source, "-o", output, *SETTINGS)[1]
    source.write_bytes(b"".join([*lines, b'{"ids": [1]}\n']))
    assert "number of prompts 30, this is 31" in batch(undisturbed.model, source, "-o", output, *SETTINGS)[1]


def test_it_remembers_a_fresh_seed(undisturbed, batch, tmp_path, monkeypatch):
    output = tmp_path / "results.jsonl"
    fresh = [option for option in SETTINGS if option not in ("--seed", "7")]
    seeds = []
    for _ in range(2):
        err = batch(undisturbed.model, undisturbed.source, "-o", output, *fresh)[1]
        seeds.append(int(err.split("seed ")[1].split(":")[0]))
        journal = output.with_name(output.name + SUFFIX)
        first = json.loads(output.read_text().splitlines()[0])
        assert first["seed"] == seeds[-1]
        output.unlink()
    assert seeds[0] != seeds[1]
    assert not journal.exists()


@pytest.mark.parametrize("seed", ["", '"seed": "x"'], ids=["none", "a word"])
def test_a_journal_without_a_seed_is_one_line(undisturbed, batch, tmp_path, seed):
    output = tmp_path / "results.jsonl"
    journal = output.with_name(output.name + SUFFIX)
    journal.write_text(f'{{"gptloop batch": {{{seed}}}}}\n')
    err = batch(undisturbed.model, undisturbed.source, "-o", output)[1]
    assert err.startswith(f"gptloop: error: the seed in {journal} must be an integer, got ")


def test_strict_stops_before_the_window_of_an_error_and_goes_on_when_it_is_mended(undisturbed, batch, tmp_path):
    source, output = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    lines = [line for line in undisturbed.source.read_bytes().splitlines() if b'"ids": [' in line][:9]
    lines = [line for line in lines if b"1.5" not in line and b"[]" not in line and b"both" not in line]
    lines = [*lines, *lines]
    source.write_bytes(b"\n".join([*lines[:9], b"?", *lines[9:]]))
    code, err = batch(undisturbed.model, source, "-o", output, *SETTINGS, "--strict")
    assert (code, err) == (
        2,
        f"gptloop: error: {source}, prompt 10: no JSON: Expecting value: line 1 column 1 (char 0)\n",
    )
    journal = output.with_name(output.name + SUFFIX)
    assert sum(len(json.loads(line).get("results", ())) for line in journal.read_text().splitlines()) == 8
    source.write_bytes(b"\n".join([*lines[:9], lines[0], *lines[9:]]))
    assert batch(undisturbed.model, source, "-o", output, *SETTINGS, "--strict")[0] == 0
    assert len(output.read_text().splitlines()) == len(lines) + 1
