"""The page in Chromium: the model runs there, gives Python's tokens, and asks nobody else for anything."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cut_products
import numpy as np
import pytest
from javascript import build_page
from page_in_browser import installed_browser, listened_to
from playwright.sync_api import Page, expect

from gptloop import OnnxLoop, export
from gptloop.runtime.completer import Completer

LOGPROB_TOLERANCE = 0.15  # of int8, as tests/web/test_javascript.py says
PROMPT = "Four score and seven years ago our fathers"
SETTINGS = {"max_new_tokens": 30, "num_return_sequences": 3, "temperature": 1.2, "top_k": 20, "seed": 7}


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory) -> Path:
    return build_page(tmp_path_factory.mktemp("built") / "page")


@pytest.fixture(scope="module")
def browser():
    with installed_browser() as browser:
        yield browser


@contextmanager
def served(path: Path, page_folder: Path) -> Iterator[str]:
    """The address at which the command serves a file."""
    command = [sys.executable, "-m", "gptloop", "web", path, "--port", "0", "--page", page_folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def path(trained, tmp_path_factory) -> Path:
    """The trained model, with its tokenizer; where WebAssembly's products are not this machine's, in fp32."""
    precision = "fp32" if cut_products.are_cut() else "int8"
    return export(trained.directory, tmp_path_factory.mktemp("model") / "model.onnx", precision=precision)


@pytest.fixture(scope="module")
def address(path, page_folder, browser):
    with served(path, page_folder) as address:
        yield address


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Page]]:
    """Opens the page, and waits until the model is there."""
    contexts = []

    def open_(address: str, *, status: str = "Ready", **options) -> Page:
        contexts.append(browser.new_context(**options))
        page = listened_to(contexts[-1].new_page())
        page.goto(address)
        # Not wait_for_function, which older Playwrights evaluate as text: the page's policy forbids it.
        expect(page.locator("#status")).to_have_text(re.compile(f"^{re.escape(status)}"), timeout=30_000)
        return page

    yield open_
    for context in contexts:
        context.close()


def generate(page: Page, prompt: str, **settings) -> None:
    page.locator("#prompt").fill(prompt)
    for name, value in settings.items():
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("#generate").click()
    page.wait_for_selector("#generate:enabled")


def candidates(page: Page) -> list[dict]:
    """Of each: its text, and by token the id and both log-probabilities."""
    script = """cards => cards.map(card => ({
        text: card.querySelector(".new").textContent,
        sums: [".drawn", ".raw"].map(name => card.querySelector(name).textContent),
        tokens: [...card.querySelectorAll("tbody tr")].map(row => [...row.cells].map(cell => cell.textContent)),
    }))"""
    return page.locator("article").evaluate_all(script)


def numbers(texts) -> list[float]:
    return [float(text.replace("\u2212", "-")) for text in texts]


def assert_pythons(found: list[dict], path: Path, prompt: str, **settings) -> None:
    """Tokens, text and log-probabilities are those of `gptloop generate`."""
    completer = Completer(OnnxLoop(path, device="cpu", threads=1))
    ends = completer.eos_token_ids
    (expected,) = completer.complete([completer.encode_one("prompt", prompt)], eos_token_id=ends, **settings)
    assert [one["text"] for one in found] == [candidate.text for candidate in expected]
    for one, candidate in zip(found, expected, strict=True):
        facts = candidate.facts()
        ids = [int(token[0]) for token in one["tokens"]]
        assert ids[: len(facts["ids"])] == facts["ids"]
        assert ids[len(facts["ids"]) :] in ([], ends)
        for column, name in ((2, "logprob"), (3, "raw_logprob")):
            values = numbers(token[column] for token in one["tokens"])
            np.testing.assert_allclose(sum(values), facts[name], rtol=0, atol=LOGPROB_TOLERANCE)


def test_the_page_gives_pythons_tokens_and_asks_nobody_else(open_page, address, path):
    page = open_page(address)
    generate(page, PROMPT, **SETTINGS)
    assert_pythons(candidates(page), path, PROMPT, **SETTINGS)
    assert page.locator("article.best").count() == 1
    assert page.said, "at least the page itself was asked for"
    assert [said for said in page.said if not said.startswith(f"request: {address}")] == []


def test_the_tab_goes_on_without_a_network_once_it_is_loaded(open_page, path, page_folder):
    with served(path, page_folder) as address:
        page = open_page(f"{address}?threads=2")
    page.context.set_offline(True)
    page.said.clear()
    generate(page, PROMPT, **SETTINGS)
    assert_pythons(candidates(page), path, PROMPT, **SETTINGS)
    assert page.said == []


def test_the_page_is_isolated_so_that_webassembly_has_threads(open_page, address, path):
    page = open_page(f"{address}?threads=2")
    assert page.evaluate("crossOriginIsolated") is True
    assert "2 threads" in page.locator("#model").inner_text()
    generate(page, PROMPT, **SETTINGS)
    assert_pythons(candidates(page), path, PROMPT, **SETTINGS)


def test_tokens_come_in_blocks_of_eight(open_page, address):
    page = open_page(address)
    page.evaluate("""() => {
        window.counts = [];
        new MutationObserver(() => {
            const rows = document.querySelectorAll("article:first-of-type tbody tr").length;
            if (rows !== window.counts.at(-1)) window.counts.push(rows);
        }).observe(document.getElementById("candidates"), {childList: true, subtree: true});
    }""")
    page.locator("#end-of-text").uncheck()
    generate(page, PROMPT, **{**SETTINGS, "max_new_tokens": 20})
    assert page.evaluate("window.counts.filter(count => count)") == [8, 16, 20]


def test_a_generation_can_be_stopped(open_page, address):
    page = open_page(address)
    page.evaluate("""() => new MutationObserver(() => document.getElementById("stop").click()).observe(
        document.getElementById("candidates"), {childList: true})""")
    page.locator("#end-of-text").uncheck()
    generate(page, PROMPT, max_new_tokens=40, num_return_sequences=64)  # so many that a block takes longer than a click
    assert page.locator("#status").inner_text().endswith("; stopped")
    (generated,) = {len(one["tokens"]) for one in candidates(page)}
    assert generated in (8, 16, 24, 32)
    generate(page, PROMPT, max_new_tokens=1, num_return_sequences=1)
    assert [len(one["tokens"]) for one in candidates(page)] == [1]


def test_a_seed_that_is_not_given_is_drawn_and_shown(open_page, address, path):
    page = open_page(address)
    generate(page, PROMPT, **{**SETTINGS, "seed": ""})
    seed = int(page.locator("[name=seed]").input_value())
    assert_pythons(candidates(page), path, PROMPT, **{**SETTINGS, "seed": seed})


def test_text_is_that_of_pythons_tokenizer(open_page, address, path, trained):
    """Bytes of characters that the tokenizer was not trained on, spaces that a clean-up would take, and markup."""
    page = open_page(address)
    for prompt in ("naïve , café .  We 're", "日本 \u200d🎉\n\n\ttab", "<b>bold</b> & <|endoftext|>"):
        generate(page, prompt, **{**SETTINGS, "num_return_sequences": 1, "max_new_tokens": 10})
        assert page.locator(".prompt").first.evaluate("one => one.textContent") == prompt
        assert_pythons(candidates(page), path, prompt, **{**SETTINGS, "num_return_sequences": 1, "max_new_tokens": 10})
        tokens = len(trained.tokenizer.encode(prompt))
        assert page.locator("#status").inner_text().startswith(f"{tokens} token")


def test_a_model_without_a_tokenizer_takes_ids(open_page, page_folder, tiny):
    with served(tiny.path, page_folder) as address:
        page = open_page(address)
    assert page.locator("label", has_text="token ids").count() == 1
    assert page.locator("#end-of-text").is_disabled()  # the model has none
    generate(page, "5, 96 0", **{**SETTINGS, "max_new_tokens": 12})
    expected = tiny.onnx.generate([[5, 96, 0]], **{**SETTINGS, "max_new_tokens": 12})
    assert [[int(token[0]) for token in one["tokens"]] for one in candidates(page)] == expected.tolist()
    assert candidates(page)[0]["text"] == ", ".join(map(str, expected[0]))
    generate(page, "5, six")
    assert page.locator("#status").inner_text() == "Error: the prompt must be token ids such as 1, 2, 3, got six"


def test_what_is_wrong_is_said_and_the_page_goes_on(open_page, address, path):
    page = open_page(address)
    generate(page, PROMPT, **{**SETTINGS, "max_new_tokens": 63})
    status = page.locator("#status").inner_text()
    assert re.fullmatch(
        r"Error: max_new_tokens must be 1 to \d+, which \d+ tokens of prompt leave of 64, got 63", status
    )
    generate(page, PROMPT, **SETTINGS)
    assert_pythons(candidates(page), path, PROMPT, **SETTINGS)


def test_a_part_of_the_model_that_is_gone_is_named(open_page, page_folder, tmp_path, tiny_model):
    path = export(tiny_model(), tmp_path / "tiny.onnx")
    with served(path, page_folder) as address:
        next(tmp_path.glob("*.data")).unlink()
        page = open_page(address, status="Error")
    assert re.fullmatch(r"Error: model/tiny.*\.data cannot be had: 404 Not Found", page.locator("#status").inner_text())
    assert page.locator("#generate").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(open_page, address, scheme):
    page = open_page(address, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    generate(page, PROMPT, **SETTINGS)
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
