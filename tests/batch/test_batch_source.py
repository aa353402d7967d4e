"""`gptloop batch`: files that cannot be the prompts."""

import os

import pytest


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_prompts_that_cannot_be_read_twice_are_refused(trained, batch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, err = batch(trained.path, tmp_path / "pipe", "-o", tmp_path / "out.jsonl")
    words = "is no file but a pipe or a device, and prompts are read twice: save them first"
    assert (code, err) == (2, f"gptloop: error: {tmp_path / 'pipe'} {words}\n")


@pytest.mark.parametrize("suffix", [".unfinished", ".written"])
def test_prompts_where_results_are_kept_until_the_end_stay(trained, batch, tmp_path, suffix):
    source = tmp_path / f"out.jsonl{suffix}"
    source.write_text('{"prompt": "precious"}')
    code, err = batch(trained.path, source, "-o", tmp_path / "out.jsonl")
    assert code == 2
    assert f"{source} cannot be the prompts: it is where results of {tmp_path / 'out.jsonl'} are kept" in err
    assert source.read_text() == '{"prompt": "precious"}'
