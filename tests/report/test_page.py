"""The page as a browser shows it: nothing asked of a network, charts to be seen, both colour schemes, small screens.

Needs Chromium, which `.ci/run` installs; skipped where there is none, but not in CI.
"""

import itertools
import re

import pytest
from page_in_browser import installed_browser, opener
from playwright.sync_api import Page
from report_runs import benchmark, gpu_machine, machine, pair, run, save

from gptloop.report.charts import render_charts, render_history
from gptloop.report.compare import compare_cases
from gptloop.report.page import page_html
from gptloop.report.runs import newest_cases, read_runs
from gptloop.report.trend import find_trends

SCRIPT = "<script>window.taken_over = 1</script>"
IMAGE = '"><img src="https://example.com/x.png" onerror="window.taken_over = 1">'
VERDICTS = [
    {
        "case": "gpt2 8x1 onnx",
        "verdict": "regression",
        "effect": 0.123,
        "interval": [0.101, 0.144],
        "budget": 0.05,
        "noise_floor": 0.021,
        "reason": f"slower than the budget {SCRIPT}",
    },
    {
        "case": "gpt2 1x1 onnx",
        "verdict": "missing",
        "effect": None,
        "interval": [None, None],
        "budget": 0.05,
        "noise_floor": None,
        "reason": "no run holds it",
    },
]


def html_of(folder, verdicts=None) -> str:
    runs = read_runs(folder)
    compared = compare_cases(newest_cases(runs))
    history = compare_cases(runs)
    drawn = {**render_charts(compared), **render_history(history, {})}
    trends = find_trends(history, ["gpt2 8x1 fp32 onnx"], {})
    return page_html(compared, drawn, verdicts, history=history, trends=trends, left_out=["a run: left out"])


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Two machines, several runs, a control, and names that would like to be markup."""
    folder = tmp_path_factory.mktemp("reports")
    int8 = benchmark("onnx_int8", (0.5, 0.5, 0.5), precision="int8", group="gpt2 8x1 fp32", alone_rounds_s=[0.5])
    hostile = pair(size=f"gpt2 {SCRIPT}", workload_title=IMAGE, weights="random, seed 0 </style>")
    save(folder, run(*pair(), at="2026-11-20T00:00:00+00:00"), "m/0001_run.json")
    save(folder, run(*pair(), int8, *pair(workload="1x64"), *hostile), "m/0002_run.json")
    save(folder, run(*pair(device="cuda"), machine=gpu_machine()), "m/0003_run.json")
    return html_of(folder, VERDICTS)


@pytest.fixture(scope="module")
def browser():
    with installed_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def show(browser, html, tmp_path_factory):
    """Opens the page."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html, encoding="utf-8")
    return opener(browser, file)


@pytest.fixture(scope="module")
def light(show):
    return show()


def colours(page: Page, selector: str) -> tuple[str, str]:
    """Computed colour (of text in a chart: fill) and the page's background."""
    script = """element => [element.closest('svg') ? getComputedStyle(element).fill : getComputedStyle(element).color,
                            getComputedStyle(document.body).backgroundColor]"""
    return tuple(page.locator(selector).first.evaluate(script))


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_complains_about_nothing_and_asks_for_nothing(show, scheme):
    page = show(scheme=scheme)
    page.get_by_role("checkbox", name="int8").uncheck()
    page.locator("details").first.locator("summary").click()
    page.wait_for_load_state("networkidle")
    assert page.said == []


def test_every_chart_of_every_machine_can_be_seen(light):
    light.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    charts = light.locator("figure svg").all()
    assert len(charts) == 5 + 4  # speedup, history, ladder, tokens per second, latency; one machine has a single run
    for chart in charts:
        label = chart.get_attribute("aria-label")
        box = chart.bounding_box()
        assert box, label
        assert box["width"] > 600, label
        assert box["height"] > 150, label
        areas = chart.evaluate(
            "svg => [...svg.querySelectorAll('path, text')].map(e => e.getBoundingClientRect().width)"
        )
        assert sum(width > 0 for width in areas) > 20, label


def test_a_machines_charts_begin_with_the_speedup_and_a_single_run_has_no_history(tmp_path):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    captions = r"<figcaption>(Speedup over the PyTorch loop, by|Time by run)"
    assert re.findall(captions, html_of(tmp_path)) == ["Speedup over the PyTorch loop, by"]
    save(tmp_path, run(*pair(), at="2026-11-23T00:00:00+00:00"), "m/0002_run.json")
    assert re.findall(captions, html_of(tmp_path)) == ["Speedup over the PyTorch loop, by", "Time by run"]


def test_the_machine_of_the_first_answers_has_the_first_section(tmp_path):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    newest = run(*pair(), machine=machine(cpu="Zeta"), at="2026-11-23T00:00:00+00:00")
    save(tmp_path, newest, "m/0002_run.json")
    slugs = re.findall('data-machine="([^"]*)"', html_of(tmp_path))
    assert [slug.startswith("cpu-zeta") for slug in slugs] == [True, False]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_small_screen_scrolls_tables_and_charts_but_not_the_page(show, width):
    page = show(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    speedup = page.get_by_role("cell", name="2.00x [2.00-2.00]").first.bounding_box()
    assert speedup["x"] + speedup["width"] <= width, "the speedup is seen without scrolling"
    assert page.locator("figure svg text").first.evaluate("text => text.getBoundingClientRect().height") >= 8


@pytest.mark.parametrize("selector", ["body", ".lead", "dt", "thead th", ".verdict.regression", "figure svg text"])
def test_text_is_read_well_in_both_colour_schemes(show, selector):
    seen = {scheme: colours(show(scheme=scheme), selector) for scheme in ("light", "dark")}
    for scheme, (ink, paper) in seen.items():
        assert contrast(ink, paper) >= 4.5, (scheme, ink, paper)
    assert luminance(seen["light"][1]) > 0.9
    assert luminance(seen["dark"][1]) < 0.05


def test_a_charts_own_white_is_dark_in_the_dark(show):
    """The ground of a chart, and of the numbers on it."""
    script = "svgs => svgs.flatMap(svg => [...svg.querySelectorAll('path')]).map(path => getComputedStyle(path).fill)"
    assert "rgb(255, 255, 255)" in show().locator("figure svg").evaluate_all(script)
    assert "rgb(255, 255, 255)" not in show(scheme="dark").locator("figure svg").evaluate_all(script)


def test_names_from_files_stay_text(light):
    assert light.evaluate("window.taken_over") is None
    assert light.locator("img").count() == 0
    assert light.locator("script").count() == 1
    text = light.locator("body").inner_text()
    assert f"gpt2 {SCRIPT}" in text
    assert IMAGE in text
    assert "slower than the budget <script>" in text


def test_ids_are_unique_and_what_refers_to_one_finds_it(light):
    ids = light.locator("[id]").evaluate_all("elements => elements.map(element => element.id)")
    assert len(ids) == len(set(ids))
    used = re.findall(r"(?:url\(|href=\")#([^)\"]+)", light.content())
    assert len(used) > 100
    assert set(used) <= set(ids)


def test_everything_has_a_name_for_those_who_do_not_see_it(light):
    for selector in ("figure svg", "[role=region]", "nav"):
        for label in light.locator(selector).evaluate_all("all => all.map(one => one.getAttribute('aria-label'))"):
            assert label, selector
    assert light.locator("table").count() == light.locator("table > caption").count() > 4
    assert light.locator("th:not([scope])").count() == 0
    assert light.locator("html").get_attribute("lang") == "en"
    levels = light.locator("h1, h2, h3").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_tables_hold_what_the_summary_holds(light):
    table = light.get_by_role("table").filter(has_text="parity").filter(has_text="4.40x [4.00-4.80]").first
    row = table.get_by_role("row").filter(has_text="int8").first
    for cell in ("4.40x [4.00-4.80]", "500 ms [500-500]", "1.23 GB", "576", "0 of 8 rows excused"):
        assert cell in row.inner_text(), cell
    facts = light.locator(".facts").filter(has_text="commit 0123456789").first.inner_text()
    for fact in ("seeded random weights", "Speed does not depend on the values.", "torch 2.13.0", "commit 0123456789"):
        assert fact in facts, fact


def test_verdicts_stand_before_the_machines(light):
    rows = light.locator("section").first.get_by_role("row").all_inner_texts()
    assert rows[1].split("\t")[:6] == ["gpt2 8x1 onnx", "regression", "+12.3 %", "+10.1 % to +14.4 %", "5.0 %", "2.1 %"]
    assert rows[2].split("\t")[:6] == ["gpt2 1x1 onnx", "missing", "-", "-", "5.0 %", "-"]


def test_without_a_gate_there_is_no_word_of_verdicts(tmp_path):
    save(tmp_path, run(*pair()))
    assert "erdict" not in re.sub(r"(?s)<(style|script)>.*?</\1>", "", html_of(tmp_path))
    assert "No case is gated." in html_of(tmp_path, [])


def test_the_same_runs_give_the_same_page(tmp_path):
    save(tmp_path, run(*pair()))
    assert html_of(tmp_path) == html_of(tmp_path)


def test_a_case_has_the_same_name_in_every_table(tmp_path):
    """A table that shows one case of two names its tokens as the others do."""
    long = pair(prompt_len=512, group="long")
    save(tmp_path, run(*pair(alone_rounds_s=[1.0]), *long))
    control = html_of(tmp_path).split("<summary>Control")[1]
    assert "8 prompts, 36 + 36 tokens" in control
    assert "512" not in control.split("</table>")[0]
