"""What a generation goes on from: a prefix with its K and V, and what a call leaves for the next one.

Knows the graph's inputs and outputs; runs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.runtime.request import Request
from gptloop.runtime.run import Input
from gptloop.runtime.threefry import by_step, uniforms
from gptloop.values import shown, whole_number

KINDS = ("key", "value")
Caches = dict[str, ort.OrtValue]


@dataclass(frozen=True)
class Prefix:
    """The beginning of prompts, computed once: what `OnnxLoop.prefill` and `Stream.prefix` return.

    Attributes:
        input_ids: int64 [B, M].
        attention_mask: int64 [B, M], 0 for what is no token of the text: padding, and what follows a row's end.
        caches: K and V, by the graph's input.
        cached: How many of the columns, from the first on, these are of: M or M - 1.
        metadata: Of the file that has computed them.
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    caches: Caches = dataclasses.field(repr=False)
    cached: int
    metadata: Mapping[str, str] = dataclasses.field(repr=False)

    def check(self, metadata: Mapping[str, str], prompts: int) -> None:
        """Refuse another file, or another number of prompts.

        Args:
            metadata: The file's.
            prompts: B of the call.

        Raises:
            ValueError: If the prefix is not of this file, or has neither 1 nor `prompts` prompts.
        """
        if self.metadata != metadata:
            source = self.metadata.get(names.META_SOURCE, "?")
            precision = self.metadata.get(names.META_PRECISION, "?")
            raise ValueError(f"prefix must be of the same file, got one of another ({source} in {precision})")
        if len(self.input_ids) not in (1, prompts):
            raise ValueError(f"prefix must have 1 prompt or input_ids' {prompts}, got {len(self.input_ids)}")

    def before(self, request: Request) -> Request:
        """The same request for the whole prompts."""
        B = len(request.input_ids)

        def whole(own: npt.NDArray[np.int64], more: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            return np.concatenate([np.broadcast_to(own, (B, own.shape[1])), more], axis=1)

        return dataclasses.replace(
            request,
            input_ids=whole(self.input_ids, request.input_ids),
            attention_mask=whole(self.attention_mask, request.attention_mask),
        )


class Left(NamedTuple):
    """What the calls up to now have left: one value, so that it is there before a call or after it, never in between.

    Attributes:
        tokens: int64 [B, R, G].
        ended: bool [B, R].
        caches: K and V, by the graph's input.
    """

    tokens: npt.NDArray[np.int64]
    ended: npt.NDArray[np.bool_]
    caches: Caches


class State:
    """What the calls of one generation hand on.

    Args:
        request: The whole generation's.
        prefix: Of its prompts, if they have one.
        n_layer: The model's.
        metadata: The file's.
        optional: Inputs of the file that have a default.

    Attributes:
        left: What there is to go on from. Whoever has run a call puts `after` here.
    """

    def __init__(
        self, request: Request, prefix: Prefix | None, n_layer: int, metadata: Mapping[str, str], optional: Set[str]
    ):
        B, R = len(request.input_ids), request.num_return_sequences
        self.left = Left(np.zeros((B, R, 0), np.int64), np.zeros((B, R), np.bool_), prefix.caches if prefix else {})
        self._cached = prefix.cached if prefix else 0  # columns of the prompts, before the first call
        self._request, self._n_layer, self._metadata = request, n_layer, metadata
        self._takes_uniforms = names.UNIFORMS in optional

    @functools.cached_property
    def _uniforms(self) -> npt.NDArray[np.float32]:
        """Of the whole generation: the graph, without them, would make its own in each call."""
        request = self._request
        numbers = uniforms(request.seed, request.num_return_sequences, request.max_new_tokens, request.first_candidate)
        return by_step(numbers)

    @property
    def generated(self) -> int:
        """Tokens of each row, G."""
        return self.left.tokens.shape[2]

    def inputs(self, new_tokens: int) -> dict[str, Input]:
        """For the next call, which is for so many."""
        G = self.generated
        L = self._request.input_ids.shape[1] if G else self._cached
        inputs = {names.RETURN_STATE: np.array([True]), **with_sizes(self.left.caches, L, G)}
        if self._takes_uniforms:
            inputs[names.UNIFORMS] = self._uniforms[max(G - 1, 0) : G + new_tokens]
        if G:
            inputs |= {names.PAST_SEQUENCES: self.left.tokens, names.PAST_ENDED: self.left.ended}
        return inputs

    def of_prompts(self) -> list[str]:
        """Names of the prompts' caches that a call is to leave."""
        return _cache_names(names.PRESENT_PROMPT, self._n_layer)

    def outputs(self) -> list[str]:
        """Names of the caches that the next call is to leave, which `after` takes in this order."""
        rows, block = (_cache_names(name, self._n_layer) for name in (names.PRESENT_ROWS, names.PRESENT_BLOCK))
        if self.generated:
            return rows + block
        # The rows' caches before the call are none; earlier files, which took no numbers, have complete blocks there.
        return (block if self._takes_uniforms else rows + block) + self.of_prompts()

    def after(
        self, tokens: npt.NDArray[np.int64], ended: npt.NDArray[np.bool_], caches: Sequence[ort.OrtValue]
    ) -> Left:
        """What there is to go on from after a call that has left these: tokens [B, R, N] and ended [B, R]."""
        return Left(np.concatenate([self.left.tokens, tokens], axis=2), ended, self._renewed(self.outputs(), caches))

    def prompts(self, caches: Sequence[ort.OrtValue]) -> Prefix:
        """What a call has left of the prompts alone."""
        request = self._request
        caches_ = self._renewed(self.of_prompts(), caches)
        return Prefix(request.input_ids, request.attention_mask, caches_, request.input_ids.shape[1], self._metadata)

    def _renewed(self, outputs: Sequence[str], caches: Sequence[ort.OrtValue]) -> Caches:
        return self.left.caches | {
            name.replace("present", "past", 1): cache
            for name, cache in zip(outputs, caches, strict=True)
            # In earlier files, what complete blocks left holds on where a call has completed none.
            if not name.startswith(names.PRESENT_ROWS) or cache.shape()[3]
        }

    def prefix(self, candidate: int | Sequence[int] | None) -> Prefix:
        """The prompts and what one candidate of each has generated; as `Stream.prefix`."""
        chosen = self._chosen(candidate)
        tokens = np.take_along_axis(self.left.tokens, chosen[:, None, None], axis=1)[:, 0]
        mask = np.concatenate([self._request.attention_mask, self._of_text(tokens)], axis=1)
        ids = np.concatenate([self._request.input_ids, tokens], axis=1)
        caches = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(cache))
            for layer in range(self._n_layer)
            for name, cache in self._joined(layer, chosen)
        }
        return Prefix(ids, mask, caches, ids.shape[1] - 1, self._metadata)  # of the last token, nothing is read yet

    def _chosen(self, candidate: int | Sequence[int] | None) -> npt.NDArray[np.int64]:
        B, R, G = self.left.tokens.shape
        if not G:
            raise ValueError("prefix() needs at least 1 block of new tokens, got none yet")
        if candidate is None and R > 1:
            raise ValueError(f"candidate must be given where there are several, got None for {R}")
        values = [candidate or 0] * B if candidate is None or np.ndim(candidate) == 0 else list(candidate)  # type: ignore[arg-type]
        if len(values) != B:
            raise ValueError(f"candidate must be one number or one for each of {B} prompts, got {len(values)}")
        return np.array([whole_number("candidate", value, 0, R - 1) for value in values])

    def _of_text(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """1 up to the token that ended a row, 0 behind it: int64 [B, G]."""
        ends = np.isin(tokens, self._request.eos_token_ids)
        sequences = self._request.stop_sequences
        before = np.full((len(tokens), sequences.shape[1] - 1), -1)
        windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([before, tokens], 1), sequences.shape[1], 1)
        for sequence in sequences[sequences[:, -1] >= 0]:
            ends |= ((windows == sequence) | (sequence < 0)).all(2)
        return (np.cumsum(ends, axis=1) - ends == 0).astype(np.int64)

    def _joined(self, layer: int, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        def cache(kind: str, name: str) -> npt.NDArray[Any]:
            array: npt.NDArray[Any] = self.left.caches[f"{name}.{layer}.{kind}"].numpy()
            if name == names.PAST_PROMPT:
                P = self._request.input_ids.shape[1]
                return array[..., :P] if kind == "key" else array[:, :, :P]
            own = np.take_along_axis(array, chosen[:, None, None, None, None], axis=2)[:, :, 0, ::-1]  # [B, H, T, d]
            return own.swapaxes(2, 3) if kind == "key" else own

        for kind, axis in zip(KINDS, (3, 2), strict=True):
            names_ = [names.PAST_BLOCK, names.PAST_ROWS, names.PAST_PROMPT]  # a prompt's K and V begin with the newest
            parts = [cache(kind, name) for name in names_ if f"{name}.{layer}.{kind}" in self.left.caches]
            yield f"{names.PAST_PROMPT}.{layer}.{kind}", np.concatenate(parts, axis=axis)


def prefix_length(prefix: Any) -> int:
    """Columns of what stands before the prompts, if anything does.

    Raises:
        ValueError: If it is no `Prefix`.
    """
    if prefix is None:
        return 0
    if not isinstance(prefix, Prefix):
        raise ValueError(f"prefix must be what prefill() or Stream.prefix() has returned, got {shown(prefix)}")
    return prefix.input_ids.shape[1]


def with_sizes(caches: Caches, cached: int, generated: int = 0) -> dict[str, Input]:
    """The graph's inputs for K and V, of so many tokens of each prompt, and for those that each row has generated."""
    if not caches:
        return {}
    rows = caches.get(f"{names.PAST_ROWS}.0.key")
    E = rows.shape()[3] if rows else 0
    return {names.PAST_SIZES: np.array([cached, generated, E]), **caches}


def _cache_names(name: str, n_layer: int) -> list[str]:
    """Of all layers' K and V."""
    return [f"{name}.{layer}.{kind}" for layer in range(n_layer) for kind in KINDS]
