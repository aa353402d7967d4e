"""GPT-2's prefill, decode steps and draws as one JAX program.

Letters of dimensions are those of `gptloop.names`; L is the length of the KV cache, N - 1 and at least 1. Knows no
contender. Imports jax, which is optional.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.random import threefry_2x32

from benchmarks.contenders.jax_loop import Config

Program = Callable[..., tuple[Array, Array]]
Cache = list[tuple[Array, Array]]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), functools.partial(jax.nn.gelu, approximate=True)),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    **dict.fromkeys(("silu", "swish"), jax.nn.silu),
    "tanh": jnp.tanh,
}


def program(config: Config, tensors: Mapping[str, Any]) -> Program:
    """The compiled generate call of a checkpoint.

    Args:
        config: Its configuration.
        tensors: Its tensors in float32, by their published names.

    Returns:
        A function of `ids_BP` int32, `mask_BP` bool or None, `key_B2` uint32 (low and high word of each prompt's seed),
        `temperature`, `eos_E` int32, maybe of no id, and of R, N, top_k and pad, for each of which it is compiled. Its
        results are tokens int32 [S, N] and how many of the N steps were taken.
    """
    weights = {name: jnp.asarray(tensor) for name, tensor in tensors.items()}
    compiled = jax.jit(functools.partial(_generate, config), static_argnames=("R", "N", "top_k", "pad"))
    return functools.partial(compiled, weights)


def _generate(
    config: Config,
    weights: Mapping[str, Array],
    *,
    ids_BP: Array,
    mask_BP: Array | None,
    key_B2: Array,
    temperature: Array,
    eos_E: Array,
    R: int,
    N: int,
    top_k: int,
    pad: int,
) -> tuple[Array, Array]:
    P, S = ids_BP.shape[1], len(ids_BP) * R
    layers = _Layers(config, weights)
    uniforms_SN = uniforms(key_B2, R, N)
    logits_BV, prompts = _prefill(layers, ids_BP, mask_BP)
    missing_S = None if mask_BP is None else jnp.repeat(P - mask_BP.sum(1), R)
    decoder = _Decoder(layers, prompts, mask_BP, missing_S, R, P)

    def with_token(logits_SV: Array, now: _Carried, cache: Cache) -> _Carried:
        uniform_S = lax.dynamic_index_in_dim(uniforms_SN, now.step, 1, keepdims=False)
        token_S = jnp.where(now.ended_S, pad, draw(logits_SV / temperature, uniform_S, top_k))
        ended_S = now.ended_S | jnp.isin(token_S, eos_E)
        tokens_NS = lax.dynamic_update_index_in_dim(now.tokens_NS, token_S, now.step, 0)
        return _Carried(now.step + 1, token_S, ended_S, tokens_NS, cache)

    def go_on(now: _Carried) -> Array:
        return (now.step < N) & ~now.ended_S.all()

    nothing = _Carried.nothing(prompts, S, N, pad)
    first = with_token(jnp.repeat(logits_BV, R, 0), nothing, nothing.cache)
    last = lax.while_loop(go_on, lambda now: with_token(*decoder.step(now)), first)
    return last.tokens_NS.T, last.step


class _Carried(NamedTuple):
    """What the loop carries."""

    step: Array  # int32 [], how many tokens each row has
    token_S: Array
    ended_S: Array
    tokens_NS: Array
    cache: Cache  # K and V of the generated tokens, [S, H, L, d] each

    @classmethod
    def nothing(cls, prompts: Cache, S: int, N: int, pad: int) -> _Carried:
        """Before the first token; the cache is shaped after the prompts'."""
        _, H, _, d = prompts[0][0].shape
        shape = (S, H, max(N - 1, 1), d)
        cache = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in prompts]
        no_S = jnp.zeros(S, jnp.int32)
        return cls(jnp.int32(0), no_S, no_S.astype(bool), jnp.full((N, S), pad, jnp.int32), cache)


class _Layers(NamedTuple):
    """The parts of GPT-2 that a prefill and a step have in common."""

    config: Config
    weights: Mapping[str, Array]

    def embed(self, ids: Array, positions: Array) -> Array:
        return self.weights["wte.weight"][ids] + self.weights["wpe.weight"][positions]

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normed = centred * lax.rsqrt(variance + self.config.layer_norm_epsilon)
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def block(self, layer: int, x: Array, attend: Callable[[Array], Array]) -> Array:
        h = f"h.{layer}"
        context = attend(self.linear(f"{h}.attn.c_attn", self.norm(f"{h}.ln_1", x)))
        x = x + self.linear(f"{h}.attn.c_proj", context)
        activation = ACTIVATIONS[self.config.activation_function]
        inner = activation(self.linear(f"{h}.mlp.c_fc", self.norm(f"{h}.ln_2", x)))
        return x + self.linear(f"{h}.mlp.c_proj", inner)

    def logits(self, x: Array) -> Array:
        head = self.weights.get("lm_head.weight", self.weights["wte.weight"])
        return self.norm("ln_f", x) @ head.T

    def heads(self, qkv: Array, rows: int) -> tuple[Array, Array, Array]:
        """[rows * T, 3 * D] -> query, key and value, [rows, H, T, d] each."""
        H, D = self.config.n_head, qkv.shape[1] // 3
        query, key, value = qkv.reshape(rows, -1, 3, H, D // H).transpose(2, 0, 3, 1, 4)
        return query, key, value


def _prefill(layers: _Layers, ids_BP: Array, mask_BP: Array | None) -> tuple[Array, Cache]:
    """Logits [B, V] after the prompts, and their K and V [B, H, P, d]."""
    B, P = ids_BP.shape
    seen = jnp.tril(jnp.ones((P, P), bool))
    positions = jnp.arange(P)
    if mask_BP is not None:
        seen = (seen & mask_BP[:, None, None, :]) | jnp.eye(P, dtype=bool)  # padding sees itself: softmax needs one
        positions = jnp.maximum(jnp.cumsum(mask_BP, 1) - 1, 0)
    x = layers.embed(ids_BP, positions).reshape(B * P, -1)
    prompts: Cache = []
    for layer in range(layers.config.n_layer):

        def attend(qkv: Array, layer: int = layer) -> Array:
            query, key, value = layers.heads(qkv, B)
            prompts.append((key, value))
            scores = jnp.einsum("bhqd,bhkd->bhqk", query * layers.config.query_scales[layer], key)
            shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
            return jnp.einsum("bhqk,bhkd->bqhd", shares, value).reshape(B * P, -1)

        x = layers.block(layer, x, attend)
    return layers.logits(x.reshape(B, P, -1)[:, -1]), prompts


class _Decoder(NamedTuple):
    """What every step reads."""

    layers: _Layers
    prompts: Cache
    mask_BP: Array | None
    missing_S: Array | None  # how many tokens of each row are padding
    R: int
    P: int

    def step(self, now: _Carried) -> tuple[Array, _Carried, Cache]:
        """Logits [S, V] after the newest token, what was carried, and the cache with the token's K and V."""
        layers, at = self.layers, now.step - 1
        position = self.P + at if self.missing_S is None else self.P + at - self.missing_S
        x = layers.embed(now.token_S, position)
        cache: Cache = []
        for layer in range(layers.config.n_layer):

            def attend(qkv: Array, layer: int = layer) -> Array:
                query, key, value = layers.heads(qkv, len(now.token_S))
                keys, values = now.cache[layer]
                keys, values = (
                    lax.dynamic_update_slice(kv, new, (0, 0, at, 0)) for kv, new in ((keys, key), (values, value))
                )
                cache.append((keys, values))
                return self._attend(query[:, :, 0] * layers.config.query_scales[layer], layer, keys, values, at)

            x = layers.block(layer, x, attend)
        return layers.logits(x), now, cache

    def _attend(self, query_SHd: Array, layer: int, keys: Array, values: Array, at: Array) -> Array:
        """In two parts that share one softmax: the prompt's K and V meet all its candidates at once."""
        (S, H, d), (key, value) = query_SHd.shape, self.prompts[layer]
        query_BRHd = query_SHd.reshape(-1, self.R, H, d)
        prompt_BRHP = jnp.einsum("brhd,bhpd->bhrp", query_BRHd, key).transpose(0, 2, 1, 3)
        if self.mask_BP is not None:
            prompt_BRHP = jnp.where(self.mask_BP[:, None, None, :], prompt_BRHP, -jnp.inf)
        own_SHL = jnp.einsum("shd,shld->shl", query_SHd, keys)
        own_SHL = jnp.where(jnp.arange(keys.shape[2]) <= at, own_SHL, -jnp.inf)
        shares = jax.nn.softmax(jnp.concatenate([prompt_BRHP.reshape(S, H, -1), own_SHL], -1), -1)
        of_prompt, of_own = shares[..., : self.P], shares[..., self.P :]
        of_prompt = jnp.einsum("brhp,bhpd->brhd", of_prompt.reshape(-1, self.R, H, self.P), value)
        return (of_prompt.reshape(S, H, d) + jnp.einsum("shl,shld->shd", of_own, values)).reshape(S, -1)


def draw(logits_SV: Array, uniform_S: Array, top_k: int) -> Array:
    """The first of the top_k ids, ascending, whose running sum of probabilities exceeds the uniform number."""
    if top_k == 1:
        return jnp.argmax(logits_SV, -1).astype(jnp.int32)
    logits_SK, ids_SK = lax.top_k(logits_SV, top_k or logits_SV.shape[-1])
    ids_SK, logits_SK = lax.sort((ids_SK, logits_SK), num_keys=1)
    sums_SK = jnp.cumsum(jax.nn.softmax(logits_SK, -1), -1)
    total_S1 = sums_SK[:, -1:]
    passed_SK = (sums_SK <= uniform_S[:, None] * total_S1) & (sums_SK < total_S1)
    return jnp.take_along_axis(ids_SK, passed_SK.sum(-1, keepdims=True), -1)[:, 0]


def uniforms(key_B2: Array, R: int, N: int) -> Array:
    """float32 [S, N]: those of `gptloop.runtime.threefry`, from JAX's own generator."""
    candidate, step = (x.reshape(-1) for x in jnp.mgrid[:R, :N].astype(jnp.uint32))
    counter = jnp.concatenate([candidate, step])  # it takes the first word of every number, then the second
    word_BRN = jax.vmap(lambda key_2: threefry_2x32(key_2, counter)[: R * N])(key_B2)
    return (word_BRN >> 8).astype(jnp.float32).reshape(-1, N) * jnp.float32(2.0**-24)
