"""A small model that knows a text by heart: the ground of the end-to-end tests."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    from gptloop import OnnxLoop

# A shell's background job ignores Ctrl-C, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A pytest that a test starts is none of xdist's workers.
os.environ.pop("PYTEST_XDIST_WORKER", None)

# Abraham Lincoln, Gettysburg, 19 November 1863; its first two paragraphs.
TEXT = """\
Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and \
dedicated to the proposition that all men are created equal.

Now we are engaged in a great civil war, testing whether that nation, or any nation so conceived and so dedicated, can \
long endure. We are met on a great battle-field of that war. We have come to dedicate a portion of that field, as a \
final resting place for those who here gave their lives that that nation might live. It is altogether fitting and \
proper that we should do this."""

END = "<|endoftext|>"
POSITIONS = 64
STEPS, ROWS = 250, 16  # 5 s on one core; 200 steps were enough, too, and three seeds gave the same


def pytest_configure(config: pytest.Config) -> None:
    """Every warning in a test is an error, but for those that pyproject.toml names."""
    config.getini("filterwarnings").insert(0, "error")  # first: later filters have precedence
    _remember_signatures()


def _remember_signatures() -> None:
    """Let onnx_ir make an operator's signature once.

    It makes one for each operator of a graph, which is a quarter of the time of a small export, and tests export
    hundreds of them.
    """
    import onnx_ir  # noqa: PLC0415

    signature, known = onnx_ir.schemas.OpSignature, {}
    make = signature.from_op_schema

    def remembered(schema: onnx.defs.OpSchema) -> onnx_ir.schemas.OpSignature:
        key = (schema.domain, schema.name, schema.since_version)
        if key not in known:
            known[key] = make(schema)
        return known[key]

    signature.from_op_schema = staticmethod(remembered)


@pytest.fixture(autouse=True)
def no_summary_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """On GitHub, a report that a test makes is no part of the job's summary."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str, int]]:
    """Runs `gptloop generate`: its output, its standard error and its exit code."""
    from gptloop.cli import main  # noqa: PLC0415

    def run_(*arguments: object, stdin: str | bytes = "") -> tuple[str, str, int]:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
        capsys.readouterr()  # what transformers printed before
        code = main(["generate", *map(str, arguments)])
        return (*capsys.readouterr(), code)

    return run_


@dataclass(frozen=True)
class Trained:
    """A trained checkpoint in each form that tests need.

    Attributes:
        text: What it was trained on, over and over, each time ended by `end`.
        ids: The text as token ids, without the end.
        end: Text of the token that ends a text, whose id is 0.
        directory: The checkpoint and its tokenizer, as transformers saves them.
        path: What `gptloop.export` made of the directory.
    """

    text: str
    ids: list[int]
    end: str
    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    directory: Path
    path: Path
    onnx: OnnxLoop


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of 2 layers and a byte-level BPE, trained on `TEXT` until it knows it by heart from any 8 tokens on."""
    from gptloop import OnnxLoop, export  # noqa: PLC0415  (most tests do without torch and transformers)

    tokenizer = train_tokenizer(TEXT)
    ids = tokenizer.encode(TEXT)
    model = train_model([0, *ids, 0, *ids, 0], vocab_size=len(tokenizer))
    directory = tmp_path_factory.mktemp("trained") / "checkpoint"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    path = export(directory, directory.parent / "trained.onnx")
    onnx_loop = OnnxLoop(path, device="cpu", threads=1)
    return Trained(TEXT, ids, END, model, tokenizer, directory, path, onnx_loop)


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """GPT-2's kind of tokenizer: byte-level BPE, so that no text is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=384, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


def train_model(ids: list[int], vocab_size: int) -> GPT2LMHeadModel:
    """A model that continues these ids from wherever a window of them begins."""
    import torch  # noqa: PLC0415
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    config = GPT2Config(
        n_layer=2,
        n_head=4,
        n_embd=64,
        n_positions=POSITIONS,
        vocab_size=vocab_size,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny products gain nothing from a second one
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=STEPS)
        windows = torch.tensor(ids).unfold(0, POSITIONS, 1)
        for _ in range(STEPS):
            batch = windows[torch.randint(len(windows), (ROWS,))]
            optimizer.zero_grad()
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    return model.eval()
