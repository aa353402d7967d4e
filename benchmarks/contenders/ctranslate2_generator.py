"""CTranslate2, converted from the same checkpoint, in fp32 and int8.

Settings, as its documentation recommends: `include_prompt_in_result=False`, so that the prompt is prefilled at once;
one batch of all prompts; all threads in one generator (`intra_threads`, `inter_threads=1`); `compute_type="int8"` for
int8, whose embeddings and products are quantized at conversion. Candidates are `num_hypotheses` of one prompt.
`static_prompt` is left out: it caches a prompt's state between calls, and a call would no longer do the same work.

It runs in a process of its own. Beside torch or a second generator, its OpenMP library counts more threads than cores
and puts all of them to sleep after each parallel part, instead of letting them wait awake: at one row of gpt2 on two
cores the PyTorch loop took 1.1 times as long, the one in int8 1.6 times, and CTranslate2 in fp32 1.4 times.

It draws random numbers of its own: in fp32 its greedy tokens are compared, in int8 its opinion of the baseline's text.
It knows text, so ids become the tokens "0", "1", ...; it needs an end of text, which is the last id, as GPT-2's is, and
is never generated: one of V tokens is out of its reach.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import KINDS, AbsentError, Files, Tokens, prompt_mask
from benchmarks.contenders.apart import Apart
from benchmarks.workloads import Workload


def prepare(name: str, files: Files) -> None:
    """Convert the checkpoint.

    Raises:
        AbsentError: If ctranslate2 is not installed.
    """
    try:
        import ctranslate2  # noqa: F401, PLC0415  (optional)
    except ImportError as error:
        raise AbsentError("ctranslate2 is not installed; the extra `peers` brings it") from error
    directory = _directory(name, files)
    if not directory.exists():
        _convert(files.checkpoint, directory, "float32" if KINDS[name].precision == "fp32" else "int8")


def load(name: str, files: Files, *, device: str, threads: int) -> Apart:
    """From the converted files, in a process of its own."""
    directory, precision = _directory(name, files), KINDS[name].precision
    return Apart(CTranslate2, directory, device, threads, precision, huge_pages=device == "cpu")


def _directory(name: str, files: Files) -> Path:
    return files.onnx.with_suffix(f".{name}")


def _convert(checkpoint: Path, directory: Path, quantization: str) -> None:
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415  (optional)
    from transformers import GPT2Config  # noqa: PLC0415

    vocab_size = GPT2Config.from_pretrained(checkpoint).vocab_size
    last = str(vocab_size - 1)
    vocabulary = {str(token): token for token in range(vocab_size)}
    tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary, bos_token=last, eos_token=last, unk_token=last)

    class WithoutTokenizer(TransformersConverter):  # type: ignore[misc]  # untyped
        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

    WithoutTokenizer(str(checkpoint)).convert(str(directory), quantization=quantization)


class CTranslate2:
    """A converted model.

    Args:
        directory: What the conversion wrote.
        device: "cpu" or "cuda".
        threads: Threads of one product.
        precision: "fp32" or "int8".
    """

    def __init__(self, directory: Path, device: str, threads: int, precision: str):
        import ctranslate2  # noqa: PLC0415  (optional)

        self._ctranslate2 = ctranslate2
        compute_type = "float32" if precision == "fp32" else "int8"
        self._generator = ctranslate2.Generator(
            str(directory), device, compute_type=compute_type, inter_threads=1, intra_threads=threads
        )

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        sampling = {
            "sampling_topk": workload.top_k,
            "sampling_temperature": workload.temperature,
            "num_hypotheses": workload.num_return_sequences,
        }
        mask = prompt_mask(workload)
        prompts = ids if mask is None else [prompt[seen == 1] for prompt, seen in zip(ids, mask, strict=True)]
        results = self._generator.generate_batch(
            [list(map(str, prompt.tolist())) for prompt in prompts],
            max_length=max_new_tokens,
            min_length=max_new_tokens,
            include_prompt_in_result=False,
            **({"sampling_topk": 1} if greedy else sampling),
        )
        return np.array([tokens for result in results for tokens in result.sequences_ids])

    def score(self, ids: Tokens) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.reference.evaluate.Scorer`."""
        text = self._ctranslate2.StorageView.from_array(ids[None].astype(np.int32))
        lengths = self._ctranslate2.StorageView.from_array(np.array([len(ids)], np.int32))
        logprobs = np.array(self._generator.forward_batch(text, lengths, return_log_probs=True))[0, :-1]
        at_next = np.take_along_axis(logprobs, ids[1:, None], axis=1)[:, 0]
        return at_next.astype(np.float64), logprobs.argmax(-1)
