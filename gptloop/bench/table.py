"""What was measured, for a person. Knows numbers and words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptloop.bench.result import Result, Spread, Timing
from gptloop.console import printable
from gptloop.quantities import bytes_text, duration_spread_text, duration_text, rate_text

HEADERS = ("median [min-max]", "whole call", "TTFT", "per output token", "tokens/s")


def render(result: Result) -> str:
    """The result as lines for a terminal."""
    facts = list(_facts(result))
    width = max(len(name) for name, _ in facts)
    lines = [_title(result), "", *(f"{name:{width}}  {words}" for name, words in facts), ""]
    lines += [*_aligned([HEADERS, *map(_cells, result.timings)]), ""]
    lines += [f"left out: {one.workload.title} ({one.why})" for one in result.left_out]
    rounds = _count(len(result.timings[0].rounds_s), "round")
    lines.append(f"{rounds}, {duration_text(result.elapsed_s)} of {result.budget_s:g} s")
    return "\n".join(printable(line) for line in lines)


def _title(result: Result) -> str:
    facts, machine = result.facts, result.machine
    threads = _count(machine.threads, "thread") if machine.threads else "its own choice of threads"
    model = f"{result.file}: {facts['source']}, {facts['precision']}, weights: {facts['weights']}"
    return f"{model}; ONNX Runtime {machine.onnxruntime} on {machine.device}, {threads}"


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    yield "opening the file", duration_text(result.load_s)
    yield "TTFT of the first call", duration_text(result.first_ttft_s)
    if result.peak_memory_bytes is not None:
        beside = ", without the GPU's" if result.machine.device == "cuda" else ""
        yield "peak memory", f"{bytes_text(result.peak_memory_bytes)}, of the whole process{beside}"
    if bandwidth := result.machine.bandwidth:
        yield (
            "memory bandwidth",
            f"{_rate_text(bandwidth, 1e9)} GB/s, read by {_count(result.machine.read_threads, 'thread')}",
        )
    if (share := result.bandwidth_share) is not None:
        yield "of it, used by one row", f"{share:.0%}, {bytes_text(result.step_weight_bytes)} of weights a token"


def _cells(timing: Timing) -> Sequence[str]:
    token_s = timing.time_per_output_token_s
    return (
        timing.workload.title,
        duration_spread_text(*timing.time_s),
        duration_spread_text(*timing.ttft_s),
        duration_spread_text(*token_s) if token_s else "-",
        _rate_text(timing.tokens_per_s, 1),
    )


def _rate_text(rate: Spread, unit: float) -> str:
    middle, low, high = (rate_text(x / unit) for x in rate)
    return f"{middle} [{low}-{high}]"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells)
