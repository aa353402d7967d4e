"""`gptloop generate`: continues texts, or token ids, with an exported model."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptloop.cli.stream import print_as_it_comes, print_by_line, print_json
from gptloop.console import lines_of_stdin, printable, strict_json, text_of_argument

if TYPE_CHECKING:
    from gptloop.runtime.candidate import Candidate
    from gptloop.runtime.text_stream import Piece

FRESH_SEEDS = 2**31  # short enough to type again, and within what every runtime takes
MAX_NEW_TOKENS = 20  # the command's own default; the others are the call's

# Settings of a call: passed on where they were given.
SETTINGS = (
    "num_return_sequences",
    "max_new_tokens",
    "min_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "sequence_bias",
    "bad_words_ids",
    "suppress_tokens",
)


def add_generate(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")
    add("prompts", nargs="*", metavar="PROMPT", help="a text to continue; - for one on each line of standard input")
    add("--ids", type=_ids, action="append", default=[], metavar="1,2,3", help="token ids to continue instead of text")
    add("--truncate", choices=("left",), help="cut the start off a prompt that is too long, instead of refusing it")
    add("--json", action="store_true", help="print one JSON object for each prompt")
    add("--raw", action="store_true", help="print control characters to a terminal, too, instead of escaping them")
    add("--stream", action="store_true", help="print text while it is generated, one prompt after the other")
    add("--timeout", type=float, metavar="SECONDS", help="end the command when this time is up")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to run (default: auto)")
    add("--threads", type=int, help="threads of one product (default: ONNX Runtime's choice)")
    packed = parser.add_mutually_exclusive_group().add_argument
    packed("--no-prepack", action="store_true", help="leave the weights in the mapped file: opens at once, slower")
    packed("--huge-pages", action="store_true", help="on the CPU, move the weights to huge pages: opens later, faster")

    add_ends(parser)
    add_sampling(parser)
    parser.set_defaults(run=run)


def add_ends(parser: argparse.ArgumentParser) -> None:
    """What ends a candidate, beside its length."""
    add = parser.add_argument
    add("--no-eos", action="store_true", help="go on after the model's end of text")
    add("--stop", action="append", default=[], metavar="TEXT", help="a text that ends a candidate, and is cut off")


def stop_texts(options: argparse.Namespace) -> list[str]:
    """The texts of `--stop`.

    Raises:
        ValueError: If one is no Unicode.
    """
    return [text_of_argument(f"stop text {number}", text) for number, text in enumerate(options.stop, 1)]


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """The settings of a call."""
    sampling = parser.add_argument_group("sampling", "as in Hugging Face's generate")

    def setting(*names: str, type_: Callable[[str], Any], help_: str, **more: Any) -> None:
        sampling.add_argument(*names, type=type_, help=help_, **{"default": argparse.SUPPRESS, **more})

    setting("-n", "--num-return-sequences", type_=int, metavar="N", help_="candidates of each prompt (default: 1)")
    setting("--max-new-tokens", type_=int, metavar="N", default=MAX_NEW_TOKENS, help_=f"default: {MAX_NEW_TOKENS}")
    setting("--min-new-tokens", type_=int, metavar="N", help_="no end of text before (default: 0)")
    setting("--temperature", type_=float, metavar="T", help_="0 is greedy (default: 1)")
    setting(
        "--top-k", type_=int, metavar="K", help_="0 for the whole vocabulary (default: 50, or all where it is less)"
    )
    setting("--top-p", type_=float, metavar="P", help_="default: 1, which cuts nothing off")
    setting("--min-p", type_=float, metavar="P", help_="default: 0, which cuts nothing off")
    setting("--repetition-penalty", type_=float, metavar="X", help_="default: 1, which is none")
    setting("--no-repeat-ngram-size", type_=int, metavar="N", help_="no N tokens twice (default: 0, any)")
    setting("--suppress-tokens", type_=_ids, metavar="1,2,3", help_="token ids that are not generated")
    several = {"action": "append", "metavar": "1,2,3"}
    setting("--bad-words-ids", type_=_ids, help_="token ids that are not generated one after the other", **several)
    several["metavar"] += "=X"
    setting("--sequence-bias", type_=_bias, help_="adds X to the logit of the last id after the others", **several)
    sampling.add_argument(
        "--seed", type=int, help="of the first prompt, one more for each further one (default: a fresh one)"
    )


def _ids(text: str) -> list[int]:
    try:
        return [int(token) for token in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be token ids such as 1,2,3, got {text!r}") from error


def _bias(text: str) -> tuple[list[int], float]:
    ids, _, bias = text.rpartition("=")
    try:
        return _ids(ids), float(bias)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be token ids and a number such as 1,2,3=-0.5, got {text!r}") from error


def run(options: argparse.Namespace) -> None:
    """Generate and print, some prompts at a time."""
    from gptloop.runtime.completer import Completer  # noqa: PLC0415  (export does not need ONNX Runtime)
    from gptloop.runtime.onnx_loop import OnnxLoop  # noqa: PLC0415
    from gptloop.runtime.text_stream import stream_text  # noqa: PLC0415

    if bool(options.prompts) == bool(options.ids):
        raise ValueError("give either texts (- for those on standard input) or token ids (--ids 1,2,3)")
    texts = list(_texts(options.prompts))
    if options.prompts and not texts:
        raise ValueError("no prompts: standard input is empty")
    loop = OnnxLoop(
        options.file,
        device=options.device,
        threads=options.threads,
        prepack=not options.no_prepack,
        huge_pages=options.huge_pages,
    )
    completer = Completer(loop)
    prompts = options.ids or completer.encode(texts)
    if options.truncate:
        prompts = completer.truncate_left(prompts, options.max_new_tokens)
    seed = secrets.randbelow(FRESH_SEEDS) if options.seed is None else options.seed
    call = {
        "eos_token_ids": () if options.no_eos else completer.eos_token_ids,
        "stop": stop_texts(options),
        "decode": bool(texts),
        "timeout_s": options.timeout,
        **{name: getattr(options, name) for name in SETTINGS if name in options},
    }
    if options.stream:
        streams = [stream_text(completer, ids, seed=seed + index, **call) for index, ids in enumerate(prompts)]
    else:
        completions = completer.complete(prompts, seed=seed, **call)
    if options.seed is None and call.get("temperature", 1) > 0:
        print(f"gptloop: seed {seed}", file=sys.stderr)
    if options.stream:
        _print_streams(streams, call.get("num_return_sequences", 1), options)
    else:
        _print_completions(completions, prompts, texts, seed, options)


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


def _texts(prompts: list[str]) -> Iterator[str]:
    for number, prompt in enumerate(prompts, 1):
        if prompt == "-":
            yield from lines_of_stdin()
        else:
            yield text_of_argument(f"prompt {number}", prompt)


def _print_text(index: int, candidates: Sequence[Candidate], texts: list[str], *, raw: bool) -> None:
    for number, candidate in enumerate(candidates, 1):
        if texts and len(texts) * len(candidates) > 1:
            print(f"--- prompt {index + 1}, candidate {number}")
        if candidate.text is None:
            print(",".join(map(str, candidate.ids)))
        else:
            print(candidate.text if raw else printable(candidate.text, keep="\n\t"))
