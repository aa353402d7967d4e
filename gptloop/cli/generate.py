"""`gptloop generate`: continues texts, or token ids, with an exported model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gptloop.cli.options import SETTINGS, add_device, add_ends, add_file, add_sampling, hinted, stop_texts, token_ids
from gptloop.cli.stream import print_as_it_comes, print_by_line, print_json
from gptloop.console import lines_of_stdin, printable, strict_json, text_of_argument
from gptloop.runtime.refusals import NoTokenizerError, PromptTooLongError

if TYPE_CHECKING:
    from gptloop.runtime.candidate import Candidate
    from gptloop.runtime.completer import Completer
    from gptloop.runtime.text_stream import Piece


def add_generate(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add_file(parser)
    add("prompts", nargs="*", metavar="PROMPT", help="a text to continue; - for one on each line of standard input")
    add(
        "--ids",
        type=token_ids,
        action="append",
        default=[],
        metavar="1,2,3",
        help="token ids to continue instead of text",
    )
    add("--truncate", choices=("left",), help="cut the start off a prompt that is too long, instead of refusing it")
    add("--json", action="store_true", help="print one JSON object for each prompt")
    add("--raw", action="store_true", help="print control characters to a terminal, too, instead of escaping them")
    add("--stream", action="store_true", help="print text while it is generated, one prompt after the other")
    add("--timeout", type=float, metavar="SECONDS", help="end the command when this time is up")
    add_device(parser)
    packed = parser.add_mutually_exclusive_group().add_argument
    packed("--no-prepack", action="store_true", help="leave the weights in the mapped file: opens at once, slower")
    packed("--huge-pages", action="store_true", help="on the CPU, move the weights to huge pages: opens later, faster")

    add_ends(parser)
    add_sampling(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Generate and print, some prompts at a time."""
    from gptloop.runtime.completer import Completer, fresh_seed  # noqa: PLC0415  (export does not need ONNX Runtime)
    from gptloop.runtime.onnx_loop import OnnxLoop  # noqa: PLC0415
    from gptloop.runtime.text_stream import stream_text  # noqa: PLC0415

    if bool(options.prompts) == bool(options.ids):
        raise ValueError("give either texts (- for those on standard input) or token ids (--ids 1,2,3)")
    texts = _texts(options.prompts)
    loop = OnnxLoop(
        options.file,
        device=options.device,
        threads=options.threads,
        prepack=not options.no_prepack,
        huge_pages=options.huge_pages,
    )
    completer = Completer(loop)
    prompts = _encoded(completer, texts, options)
    seed = fresh_seed() if options.seed is None else options.seed
    ends = () if options.no_eos else completer.eos_token_ids
    call = {
        "stop": stop_texts(options),
        "decode": bool(texts),
        "timeout_s": options.timeout,
        **{name: getattr(options, name) for name in SETTINGS if name in options},
    }
    if options.stream:
        streams = [
            stream_text(completer, ids, seed=seed + index, eos_token_ids=ends, **call)
            for index, ids in enumerate(prompts)
        ]
    else:
        with hinted(PromptTooLongError, " (--truncate left cuts it)"):
            completions = completer.complete(prompts, seed=seed, eos_token_id=ends, **call)
    if options.seed is None and call.get("temperature", 1) > 0:
        print(f"gptloop: seed {seed}", file=sys.stderr)
    if options.stream:
        _print_streams(streams, call.get("num_return_sequences", 1), options)
    else:
        _print_completions(completions, prompts, texts, seed, options)


def _encoded(completer: Completer, texts: list[str], options: argparse.Namespace) -> Sequence[Sequence[int]]:
    with hinted(NoTokenizerError, ": --ids 1,2,3"):
        prompts = options.ids or completer.encode(texts)
    return completer.truncate_left(prompts, options.max_new_tokens) if options.truncate else prompts


def _print_completions(
    completions: Iterable[Sequence[Candidate]],
    prompts: Sequence[Sequence[int]],
    texts: list[str],
    seed: int,
    options: argparse.Namespace,
) -> None:
    for index, candidates in enumerate(completions):
        if options.json:
            prompt = {"prompt": texts[index]} if texts else {}
            facts = [candidate.facts() for candidate in candidates]
            print(strict_json({**prompt, "prompt_ids": prompts[index], "seed": seed + index, "candidates": facts}))
        else:
            _print_text(index, candidates, texts, raw=options.raw or not sys.stdout.isatty())


def _print_streams(streams: Sequence[Iterable[Piece]], candidates: int, options: argparse.Namespace) -> None:
    raw = options.raw or not sys.stdout.isatty()
    for number, pieces in enumerate(streams, 1):
        if options.json:
            print_json(pieces, number)
        elif len(streams) * candidates == 1:
            print_as_it_comes(pieces, raw=raw)
        else:
            print_by_line(pieces, number, raw=raw)


def _texts(prompts: list[str]) -> list[str]:
    texts: list[str] = []
    for number, prompt in enumerate(prompts, 1):
        texts += lines_of_stdin() if prompt == "-" else [text_of_argument(f"prompt {number}", prompt)]
    if prompts and not texts:
        raise ValueError("no prompts: standard input is empty")
    return texts


def _print_text(index: int, candidates: Sequence[Candidate], texts: list[str], *, raw: bool) -> None:
    for number, candidate in enumerate(candidates, 1):
        if texts and len(texts) * len(candidates) > 1:
            print(f"--- prompt {index + 1}, candidate {number}")
        if candidate.text is None:
            print(",".join(map(str, candidate.ids)))
        else:
            print(candidate.text if raw else printable(candidate.text, keep="\n\t"))
