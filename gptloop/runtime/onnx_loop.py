"""OnnxLoop: an exported file in ONNX Runtime.

Knows the graph's inputs and outputs and ONNX Runtime's options; nothing of how the graph computes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Unpack, overload

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.runtime.arguments import Arguments, takes_arguments
from gptloop.runtime.cuda_graph import CapturedCalls
from gptloop.runtime.earlier_files import fitted
from gptloop.runtime.feeds import feeds
from gptloop.runtime.lean_call import ON_HOST, lean_feeds
from gptloop.runtime.loop import Generation, Loop, Outputs
from gptloop.runtime.memory import check_memory
from gptloop.runtime.opening import open_model
from gptloop.runtime.request import Request, check_request
from gptloop.runtime.run import Deadline, Input, run_bound
from gptloop.runtime.session import CUDA, THREADS_MAX
from gptloop.runtime.state import Prefix, State, prefix_length, with_sizes
from gptloop.runtime.stream import Stream
from gptloop.values import whole_number

OUTPUTS = (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS)


class OnnxLoop(Loop):
    """An exported model, ready to generate; may be shared by threads.

    Args:
        path: The .onnx file that `gptloop.export` wrote, its data file beside it.
        device: "cpu", "cuda", or "auto" for CUDA where it loads.
        threads: Threads of one product; ONNX Runtime's own choice (one per physical core) unless given.
        prepack: Whether ONNX Runtime rearranges the weights for its products on the CPU when it loads them. False
            leaves them in the mapped file, in pages that the system may take back and several processes share: loading
            takes a moment, but generating gets slower (0.65 to 0.8 times the speed, gpt2 in fp32).
        huge_pages: Whether to move what was packed to huge pages, where Linux has them. Generating gets faster (1.01 to
            1.13 times, gpt2), loading takes 0.1 to 1 s longer for 500 MB.
        verify: Whether to compare all files with the hashes that the export recorded, first: 0.4 s for 200 MB.

    Attributes:
        metadata: What the export recorded in the file, by the keys of gptloop.names.
        session: ONNX Runtime's, for calls by the names of the graph's inputs and outputs.
        device: "cpu" or "cuda", where it runs.
        flavor: The file's, of which some have fewer features: `generate` refuses what the file cannot do.

    Raises:
        FileNotFoundError: If the model file or its data file is missing.
        ValueError: If either is truncated, damaged or no gptloop model, names files outside its folder, or with
            `verify` is not what was exported; the device or `threads` is not usable, or the precision does not run on
            the device.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        prepack: bool = True,
        huge_pages: bool = True,
        verify: bool = False,
    ):
        self.path = Path(path)
        threads = None if threads is None else whole_number("threads", threads, 1, THREADS_MAX)
        self.session, self.metadata = open_model(
            self.path, device=device, threads=threads, prepack=prepack, huge_pages=huge_pages, verify=verify
        )
        self._config = json.loads(self.metadata[names.META_CONFIG])
        super().__init__(SimpleNamespace(**self._config))
        self.flavor = self.metadata.get(names.META_FLAVOR, "standard")
        fixed = self.metadata.get(names.META_MAX_NEW_TOKENS)
        self._max_new_tokens = None if fixed is None else int(fixed)
        self._inputs = {value.name: value.shape for value in self.session.get_inputs()}
        self._optional = {value.name for value in self.session.get_overridable_initializers()}
        self.device = "cuda" if CUDA in self.session.get_providers() else "cpu"
        self._captured = CapturedCalls(self.session, ON_HOST, self.device) if self.flavor == "unrolled" else None

    @overload
    def generate(
        self,
        input_ids: npt.ArrayLike,
        *,
        return_logprobs: Literal[True],
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[Arguments],
    ) -> Generation: ...

    @overload
    def generate(
        self,
        input_ids: npt.ArrayLike,
        *,
        return_logprobs: Literal[False] = False,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[Arguments],
    ) -> npt.NDArray[np.int64]: ...

    @takes_arguments
    def generate(
        self,
        input_ids: npt.ArrayLike,
        *,
        return_logprobs: bool = False,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[Arguments],
    ) -> npt.NDArray[np.int64] | Generation:
        """Sample continuations of the prompts, in one call of the graph.

        Args:
            input_ids: Integers [B, P], B prompts of P tokens each, within the vocabulary; with a prefix, what
                follows it.
            **arguments
            return_logprobs: Return a `Generation`.
            prefix: What stands before the prompts, from `prefill` or `Stream.prefix`: one for each, or one for all. The
                tokens are those of a call with all of it in `input_ids`.
            timeout_s: Seconds after which the call is ended; None for never. The flavor "unrolled" has none.

        Returns:
            int64 [B * R, N], new tokens only, the candidates of one prompt adjacent; N is below max_new_tokens where
            all rows ended earlier. A `Generation` if `return_logprobs`.

        Raises:
            ValueError: Naming the argument, the value and the bound, before any work is done.
            TypeError: If an argument is unknown, or max_new_tokens is not given.
            TimeoutError: If the time was up; the loop stays usable.
            OSError: If a data file, which stays mapped, was cut short.
        """
        request = self.check(input_ids, return_logprobs=return_logprobs, prefix=prefix, **arguments)
        outputs = self._run(request, prefix, Deadline(timeout_s).left_s())
        return Generation(*outputs, seed=request.seed) if return_logprobs else outputs.tokens

    @takes_arguments
    def stream(
        self,
        input_ids: npt.ArrayLike,
        *,
        block: int = 8,
        return_logprobs: bool = False,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        **arguments: Unpack[Arguments],
    ) -> Stream:
        """Sample continuations of the prompts, and hand the new tokens over while they are generated.

        Args:
            input_ids: As `generate`, like what follows.
            **arguments
            block: New tokens of a row that are handed over at once, at least 1.
            return_logprobs: Hand a `Generation` over for each block.
            prefix: What stands before the prompts.
            timeout_s: Seconds from the first block on, after which the stream is ended.

        Returns:
            An iterator of int64 [B * R, k], k up to `block`; joined, they are what `generate` returns.

        Raises:
            ValueError: As `generate`, before any work is done; or if the file has no state to go on from.
        """
        request = self.check(input_ids, return_logprobs=return_logprobs, prefix=prefix, **arguments)
        self._check_state("stream()")
        block = whole_number("block", block, at_least=1)
        state = State(request, prefix, self._config["n_layer"], self.metadata, self._optional)
        return Stream(self._run_block, request, self._feeds(request), state, block, Deadline(timeout_s))

    def prefill(
        self, input_ids: npt.ArrayLike, *, attention_mask: npt.ArrayLike | None = None, prefix: Prefix | None = None
    ) -> Prefix:
        """Compute K and V of what several calls start with.

        Args:
            input_ids: Integers [B, P], for B prompts, or [1, P] for any number of them.
            attention_mask: As `generate`.
            prefix: What stands before.

        Raises:
            ValueError: As `stream`.
        """
        request = self.check(input_ids, attention_mask=attention_mask, prefix=prefix, max_new_tokens=1)
        self._check_state("prefill()")
        state = State(request, prefix, self._config["n_layer"], self.metadata, self._optional)
        inputs = {**self._feeds(request), **state.inputs(1)}
        return state.prompts(self._run_block(inputs, (), state.of_prompts(), None))

    def check(
        self,
        input_ids: npt.ArrayLike,
        *,
        return_logprobs: bool = False,
        prefix: Prefix | None = None,
        **arguments: Unpack[Arguments],
    ) -> Request:
        """The request of a call to `generate`, the prefix included, without running it; raises as that does."""
        prefix_len = prefix_length(prefix)
        request = check_request(
            self.bounds, input_ids, return_logprobs=return_logprobs, prefix_len=prefix_len, **arguments
        )
        if prefix:
            self._check_state("a prefix")
            prefix.check(self.metadata, len(request.input_ids))
            request = prefix.before(request)
        if self.device == "cpu":
            check_memory(request, self._config, self.metadata[names.META_PRECISION])
        return request

    def _check_state(self, what: str) -> None:
        if names.RETURN_STATE not in self._optional:
            why = f"is of flavor {self.flavor!r}" if self.flavor != "standard" else "is from before there was one"
            raise ValueError(f"{what} needs a file whose generation has a state, {self.path} {why}")

    def _run(self, request: Request, prefix: Prefix | None = None, timeout_s: float | None = None) -> Outputs:
        wanted = OUTPUTS if request.return_logprobs else OUTPUTS[:1]
        if self._captured:
            if timeout_s is not None:
                raise ValueError(f"a file of flavor {self.flavor!r} has no timeout_s; flavor 'standard' has")
            shape = (*request.input_ids.shape[:1], request.num_return_sequences, request.max_new_tokens)
            outputs = [self._captured.run(self._feeds(request), names.SEQUENCES, np.zeros(shape, np.int64))]
        else:
            before = with_sizes(prefix.caches, prefix.cached) if prefix else {}
            inputs = {**self._feeds(request), **before}
            outputs = [value.numpy() for value in self._run_block(inputs, wanted, (), timeout_s)]
        outputs = [x.reshape(-1, x.shape[-1]) for x in outputs]  # [B, R, N] -> [B * R, N]
        if not request.return_logprobs:
            outputs += [np.zeros(outputs[0].shape, np.float32)] * 2
        return Outputs(*outputs)

    def _run_block(
        self, inputs: Mapping[str, Input], outputs: Sequence[str], stay: Sequence[str], timeout_s: float | None
    ) -> list[ort.OrtValue]:
        if self.session.weights:
            self.session.weights.check()
        return run_bound(self.session, inputs, outputs, stay=stay, device=self.device, timeout_s=timeout_s)

    def _feeds(self, request: Request) -> dict[str, npt.NDArray[Any]]:
        if self.flavor != "standard":
            return lean_feeds(request, self.flavor, self._max_new_tokens)
        return fitted(feeds(request), self._inputs, self.path)
