"""Threefry-2x32-20, the counter-based random number generator of gptloop, in numpy.

The key is a prompt's seed (low 32 bits, then high 32 bits), the counter is (candidate, step). So a number depends on
nothing but its prompt's seed, its candidate and its step: not on the batch, the runtime or the order of the draws.
`gptloop.graph.threefry` is the same generator in ONNX operators.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; Random123.
"""

import numpy as np
import numpy.typing as npt

from gptloop.names import THREEFRY_KEY_PARITY, THREEFRY_ROTATIONS, THREEFRY_ROUNDS


def threefry2x32(
    key: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
    counter: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Encrypt `counter` under `key`.

    Args:
        key: Two uint32 arrays.
        counter: Two uint32 arrays; they broadcast against the key's.

    Returns:
        Two uint32 arrays of the broadcast shape.
    """
    schedule = (*key, np.uint32(THREEFRY_KEY_PARITY) ^ key[0] ^ key[1])
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for round_ in range(THREEFRY_ROUNDS):
        bits = np.uint32(THREEFRY_ROTATIONS[round_ % 8])
        x0 = x0 + x1
        x1 = ((x1 << bits) | (x1 >> (np.uint32(32) - bits))) ^ x0
        if round_ % 4 == 3:
            injection = round_ // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + schedule[(injection + 1) % 3] + np.uint32(injection)
    return x0, x1


def uniforms(
    seed: npt.NDArray[np.int64], candidates: int, steps: int, first_candidate: int = 0
) -> npt.NDArray[np.float32]:
    """The numbers that one `generate` call draws with.

    Args:
        seed: int64 [B], one per prompt, 0 to 2^63 - 1.
        candidates: Candidates per prompt, R.
        steps: New tokens per candidate, N.
        first_candidate: The number of the first one.

    Returns:
        float32 [B, R, N] in [0, 1), each a multiple of 2^-24.
    """
    bits = seed.astype(np.uint64)[:, None, None]
    key = bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)
    numbers = np.arange(first_candidate, first_candidate + candidates, dtype=np.uint32)
    counter = numbers[:, None], np.arange(steps, dtype=np.uint32)
    word, _ = threefry2x32(key, counter)
    return (word >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def by_step(numbers_BRN: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """As a graph takes them that is given them: [N, S, 1]."""
    N = numbers_BRN.shape[2]
    return np.ascontiguousarray(numbers_BRN.reshape(-1, N).T)[:, :, None]
