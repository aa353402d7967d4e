"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptloop.console import text_of_argument

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


def add_file(parser: argparse.ArgumentParser) -> None:
    """The model."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where it runs."""
    add = parser.add_argument
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to run (default: auto)")
    add("--threads", type=int, help="threads of one product (default: ONNX Runtime's choice)")


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
    setting("--suppress-tokens", type_=token_ids, metavar="1,2,3", help_="token ids that are not generated")
    several = {"action": "append", "metavar": "1,2,3"}
    setting("--bad-words-ids", type_=token_ids, help_="token ids that are not generated one after the other", **several)
    several["metavar"] += "=X"
    setting("--sequence-bias", type_=_bias, help_="adds X to the logit of the last id after the others", **several)
    sampling.add_argument(
        "--seed", type=int, help="of the first prompt, one more for each further one (default: a fresh one)"
    )


def token_ids(text: str) -> list[int]:
    """The ids of an argument.

    Raises:
        ArgumentTypeError: If it holds anything else.
    """
    try:
        return [int(token) for token in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be token ids such as 1,2,3, got {text!r}") from error


def _bias(text: str) -> tuple[list[int], float]:
    ids, _, bias = text.rpartition("=")
    try:
        return token_ids(ids), float(bias)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be token ids and a number such as 1,2,3=-0.5, got {text!r}") from error


@contextlib.contextmanager
def hinted(kind: type[ValueError], hint: str) -> Iterator[None]:
    """Have errors of a kind end with what the command has against them."""
    try:
        yield
    except kind as error:
        raise ValueError(f"{error}{hint}") from error
