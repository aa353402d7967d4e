"""The page as a person reads it: answers on the first screen, a filter, sorting, numbers behind charts, paper."""

import base64
import csv
import io
import re

import example_history
import pytest
from page_in_browser import installed_browser, opener
from report_runs import benchmark, machine, pair, run, save

from gptloop.report.write import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two machines, two sizes and precisions, runs with other grids, and one in another form."""
    folder = tmp_path_factory.mktemp("reports")
    int8 = benchmark("onnx_int8", (0.25, 0.3, 0.35), precision="int8", group="gpt2 8x1 fp32")
    first = [*pair(), int8, *pair(size="distilgpt2", workload="1x8")]
    save(folder, run(*first, at="2026-11-20T00:00:00+00:00"), "m/0001_run.json")
    save(folder, run(*pair(workload="1x64")), "m/0002_run.json")
    save(folder, run(*pair(), machine=machine(cpu="Other"), at="2026-11-19T00:00:00+00:00"), "m/0003_run.json")
    save(folder, run(benchmark(schema=0)), "m/0004_run.json")
    write_report(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with installed_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def show(browser, report):
    return opener(browser, report)


def shown(page, selector: str) -> int:
    return page.locator(f":is({selector}):visible").count()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_first_screen_answers_what_is_asked_first(show, width, height):
    page = show(width=width, height=height)
    for words in ("Is it faster", "Than whom", "On what?", "Did it get worse?", "Yes: 2.00x", "Too early to tell"):
        box = page.get_by_text(words).first.bounding_box()
        assert box["y"] + box["height"] <= height, words
    first = page.locator(".answers").first.inner_text()
    assert "In int8 (PyTorch in fp32): 7.33x" in first
    assert "0002_run.json" not in first, "names of files come last"


def test_whole_time_and_ttft_are_bars_beside_each_other_in_a_panel_for_each_case(show):
    page = show()
    panel = page.locator(".panel").filter(has_text="8 prompts").first
    assert panel.locator("tbody tr").count() == 3
    fast, slow = (panel.locator("tbody tr").filter(has_text=name) for name in ("int8", "PyTorch loop"))
    assert fast.locator(".bar").all_inner_texts() == ["300 ms 7.33x", "25.0 ms 8.00x"]
    for place in (0, 1):
        widths = [row.locator(".bar i").nth(place).bounding_box()["width"] for row in (fast, slow)]
        assert widths[0] / widths[1] == pytest.approx((0.3 / 2.2, 0.025 / 0.2)[place], rel=0.05)
    colours = page.locator(".panel tr:has-text('PyTorch loop') .bar i").evaluate_all(
        "bars => bars.map(bar => getComputedStyle(bar).backgroundColor)"
    )
    assert len(set(colours)) == 1, "a contender has one colour"


def test_the_filter_hides_machines_sizes_and_precisions_and_brings_them_back(show):
    page = show()
    whole = [shown(page, one) for one in ("section[data-machine]", ".panel", "tr[data-precision]")]
    page.get_by_role("checkbox", name="CPU Other, 2 threads").uncheck()
    assert shown(page, "section[data-machine]") == 1
    page.get_by_role("checkbox", name="distilgpt2").uncheck()
    assert shown(page, ".panel[data-size=distilgpt2], tbody[data-size=distilgpt2]") == 0
    page.get_by_role("checkbox", name="fp32").uncheck()
    assert shown(page, "tr[data-precision=fp32]") == 0
    assert shown(page, ".panel") == 1, "a panel without a row goes, too"
    for name in ("CPU Other, 2 threads", "distilgpt2", "fp32"):
        page.get_by_role("checkbox", name=name).check()
    assert [shown(page, one) for one in ("section[data-machine]", ".panel", "tr[data-precision]")] == whole


def test_without_scripts_everything_is_there_and_nothing_that_would_not_work(show):
    page, scripted = show(scripts=False), show()
    assert not page.locator("form.filter").is_visible()
    assert page.locator("thead button").count() == 0
    assert shown(page, "tbody tr") == shown(scripted, "tbody tr") > 10


def test_a_table_is_sorted_by_number_within_its_groups_and_back(show):
    page = show()
    table = page.get_by_role("table").filter(has_text="parity").first
    button = table.get_by_role("button").filter(has_text=re.compile("^time$"))  # not its name, with an arrow in it
    group = table.locator("tbody").filter(has_text="8 prompts")
    own_order = group.locator("tr:not(.group) > :nth-child(1)").all_inner_texts()
    assert own_order == ["PyTorch loop", "ONNX loop", "ONNX loop, int8"]
    button.click()
    assert group.locator("tr:not(.group) > :nth-child(1)").all_inner_texts() == own_order[::-1], "300 ms before 1.1 s"
    assert table.locator("th[aria-sort=ascending]").count() == 1
    button.click()
    assert group.locator("tr:not(.group) > :nth-child(1)").all_inner_texts() == own_order
    button.click()
    assert table.locator("th[aria-sort]").count() == 0
    assert group.locator("tr").first.get_attribute("class") == "group"


def test_the_numbers_of_every_chart_are_behind_a_link(show):
    page = show()
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    assert page.locator("figure:has(svg)").count() == page.locator("figure a[download]").count() > 5
    for link in page.locator("a[download]").all():
        content = base64.b64decode(re.fullmatch(r"data:text/csv;.*base64,(.*)", link.get_attribute("href"))[1])
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        assert {"size", "workload", "contender", "precision"} <= rows[0].keys()
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    assert download.value.suggested_filename.startswith("times-cpu-")


def test_runs_of_other_grids_and_of_another_form_are_told(show):
    page = show()
    machine = page.locator("section[data-machine]").filter(has_text="Xeon")
    assert "from 2 runs that did not measure the same ones" in machine.inner_text()
    runs = machine.locator(".facts").inner_text()
    assert re.search(r"2026-11-20 .*: distilgpt2 1x8 fp32, gpt2 8x1 fp32 \(m/0001_run\.json\)", runs)
    left_out = page.locator("section").filter(has_text="Left out").inner_text()
    assert "m/0004_run.json: benchmark 1: extra_info has schema 0, this report reads schema 1: left out" in left_out


def test_a_wide_table_shows_that_it_scrolls(show):
    """Shadows that the content covers at its ends: what is told is that they are there."""
    page = show(width=390)
    wide = page.get_by_role("region", name="Time of a whole call").first
    assert wide.evaluate("one => one.scrollWidth > one.clientWidth")
    assert wide.evaluate("one => getComputedStyle(one).backgroundAttachment") == "local, local, scroll, scroll"


def test_on_paper_nothing_is_cut_off_or_dark(show):
    page = show(scheme="dark", width=720)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("form.filter").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    script = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.ariaLabel)"
    assert page.locator(".scroll").evaluate_all(script) == []
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf().startswith(b"%PDF")


def test_the_page_of_the_synthetic_history_says_that_it_got_worse(browser, tmp_path):
    for name, content in example_history.runs().items():
        save(tmp_path, content, name)
    write_report(tmp_path)
    page = opener(browser, tmp_path / "report.html")()
    words = page.locator(".answers").first.inner_text()
    assert re.search(r"Did it get worse\?\s+Yes\s+Trend: 1 of 2 gated cases.*gpt2 8x1 onnx_int8 \+8\.\d %", words)
    assert page.locator("figure").filter(has_text="Time by run").get_by_text(re.compile(r"^\+8\.\d %, ")).count() == 1
