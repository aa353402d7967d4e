"""The command line: `gptloop export`, `generate`, `evaluate` and `inspect`.

Parses and prints; the work is elsewhere.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from gptloop.console import reader_may_leave

FRESH_SEEDS = 2**31  # short enough to type again, and within what every runtime takes
SETTINGS = (
    "num_return_sequences",
    "max_new_tokens",
    "min_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one line on stderr where the input is at fault."""
    try:
        with reader_may_leave():
            options = _parse(arguments)
            options.run(options)
    except (ValueError, OSError) as error:
        print("gptloop: error:", *str(error).split(), file=sys.stderr)  # on one line, whatever libraries say
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, and prompts wherever they stand: argparse leaves those over that stand behind an option."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    literal_from = rest.index("--") if "--" in rest else len(rest)
    prompts, literal = rest[:literal_from], rest[literal_from + 1 :]
    unknown = [prompt for prompt in prompts if prompt.startswith("-") and prompt != "-" and " " not in prompt]
    if rest and "prompts" not in options:
        unknown = rest
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.prompts += prompts + literal
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gptloop", description="GPT-2 as one ONNX graph that generates text")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="write a checkpoint as one ONNX model that generates")
    export.add_argument("model", metavar="MODEL", help="a hub id, a local directory, or with --random-weights a size")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    export.add_argument("--precision", default="fp32", help="precision of the weights (default: fp32)")
    export.add_argument("--single-file", action="store_true", help="weights inside the .onnx file, up to 2 GB")
    export.add_argument("--random-weights", action="store_true", help="seeded weights of a named size, no network")
    export.set_defaults(run=_export)

    _add_generate(commands.add_parser("generate", help="continue texts with an exported model"))

    evaluate = commands.add_parser("evaluate", help="what a model file's precision costs on a text, against its source")
    evaluate.add_argument("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")
    given = evaluate.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", type=Path, metavar="FILE", help="a text in UTF-8, for the tokenizer beside the model")
    given.add_argument("--ids", type=Path, metavar="FILE", help="token ids, separated by spaces, commas or lines")
    evaluate.add_argument("--source", metavar="MODEL", help="the checkpoint it was made from (default: as it says)")
    evaluate.add_argument("--window", type=int, metavar="N", help="tokens scored at a time (default: n_positions)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(run=_evaluate)

    inspect = commands.add_parser("inspect", help="print a model file's metadata, sizes and node counts")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.add_argument("--verify", action="store_true", help="compare all of its files with the hashes of the export")
    inspect.set_defaults(run=_inspect)
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")
    add("prompts", nargs="*", metavar="PROMPT", help="a text to continue; - for one on each line of standard input")
    add("--ids", type=_ids, action="append", default=[], metavar="1,2,3", help="token ids to continue instead of text")
    add("--json", action="store_true", help="print one JSON object for each prompt")
    add("--no-eos", action="store_true", help="go on after the model's end of text")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to run (default: auto)")
    add("--threads", type=int, help="threads of one product (default: ONNX Runtime's choice)")
    packed = parser.add_mutually_exclusive_group().add_argument
    packed("--no-prepack", action="store_true", help="leave the weights in the mapped file: opens at once, slower")
    packed("--huge-pages", action="store_true", help="on the CPU, move the weights to huge pages: opens later, faster")

    sampling = parser.add_argument_group("sampling", "as in Hugging Face's generate")
    add = sampling.add_argument
    add("-n", "--num-return-sequences", type=int, default=1, metavar="N", help="candidates of each prompt (default: 1)")
    add("--max-new-tokens", type=int, default=20, metavar="N", help="default: 20")
    add("--min-new-tokens", type=int, default=0, metavar="N", help="no end of text before (default: 0)")
    add("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1)")
    add("--top-k", type=int, default=50, metavar="K", help="0 for the whole vocabulary (default: 50)")
    add("--top-p", type=float, default=1.0, metavar="P", help="default: 1, which cuts nothing off")
    add("--min-p", type=float, default=0.0, metavar="P", help="default: 0, which cuts nothing off")
    add("--repetition-penalty", type=float, default=1.0, metavar="X", help="default: 1, which is none")
    add("--seed", type=int, help="of the first prompt, one more for each further one (default: a fresh one)")
    parser.set_defaults(run=_generate)


def _ids(text: str) -> list[int]:
    try:
        return [int(token) for token in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be token ids such as 1,2,3, got {text!r}") from error


def _export(options: argparse.Namespace) -> None:
    from gptloop.checkpoint import open_checkpoint, random_checkpoint  # noqa: PLC0415  (inspect needs no torch)
    from gptloop.exporter.export import export  # noqa: PLC0415

    checkpoint = (random_checkpoint if options.random_weights else open_checkpoint)(options.model)
    with tqdm(desc="writing tensors", unit="", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        export(
            checkpoint,
            options.output,
            precision=options.precision,
            single_file=options.single_file,
            progress=show,
        )
    print(options.output)


def _generate(options: argparse.Namespace) -> None:
    from gptloop.runtime.completer import Completer  # noqa: PLC0415  (nor does export need ONNX Runtime)
    from gptloop.runtime.onnx_loop import OnnxLoop  # noqa: PLC0415

    if bool(options.prompts) == bool(options.ids):
        raise ValueError("give either texts (- for those on standard input) or token ids (--ids 1,2,3)")
    loop = OnnxLoop(
        options.file,
        device=options.device,
        threads=options.threads,
        prepack=not options.no_prepack,
        huge_pages=options.huge_pages,
    )
    completer = Completer(loop)
    texts = list(_texts(options.prompts))
    prompts = options.ids or completer.encode(texts)
    seed = secrets.randbelow(FRESH_SEEDS) if options.seed is None else options.seed
    completions = completer.complete(
        prompts,
        seed=seed,
        eos_token_ids=() if options.no_eos else completer.eos_token_ids,
        decode=bool(texts),
        **{name: getattr(options, name) for name in SETTINGS},
    )
    if options.seed is None and options.temperature > 0:
        print(f"gptloop: seed {seed}", file=sys.stderr)
    for index, candidates in enumerate(completions):
        if options.json:
            prompt = {"prompt": texts[index]} if texts else {}
            facts = [{key: fact for key, fact in c._asdict().items() if fact is not None} for c in candidates]
            print(json.dumps({**prompt, "prompt_ids": prompts[index], "seed": seed + index, "candidates": facts}))
            continue
        for number, candidate in enumerate(candidates, 1):
            if texts and len(texts) * len(candidates) > 1:
                print(f"--- prompt {index + 1}, candidate {number}")
            print(",".join(map(str, candidate.ids)) if candidate.text is None else candidate.text)


def _texts(prompts: list[str]) -> Iterator[str]:
    for prompt in prompts:
        if prompt == "-":
            yield from (line.removesuffix("\n") for line in sys.stdin)
        else:
            yield prompt


def _evaluate(options: argparse.Namespace) -> None:
    from gptloop.reference.evaluate import evaluate, read_ids, read_text, render, source_of  # noqa: PLC0415

    ids = read_ids(options.ids) if options.ids else read_text(options.file, options.text)
    source = options.source or source_of(options.file)
    evaluation = evaluate(options.file, source, ids, options.window or 0)
    print(json.dumps(evaluation.to_dict()) if options.json else render(evaluation))


def _inspect(options: argparse.Namespace) -> None:
    from gptloop.exporter.inspect import inspect, render  # noqa: PLC0415

    print(render(inspect(options.file, verify=options.verify)))
    if options.verify:
        print("content: as it was exported")
