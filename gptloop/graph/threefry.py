"""Threefry-2x32-20 in standard ONNX operators, exact on every runtime tried.

A 32-bit word is held as two 16-bit limbs in int32 tensors, and only Add, Mul, Div, Mod and BitwiseXor touch them, so
that no runtime's handling of unsigned overflow, shifts or narrowed integer types can change a bit. The largest
intermediate value is 65535 * 2^15 < 2^31.

Knows nothing of sampling. `gptloop.runtime.threefry` is the same generator in numpy.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; Random123.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.names import THREEFRY_KEY_PARITY, THREEFRY_ROTATIONS, THREEFRY_ROUNDS

LIMB = 1 << 16


class Word(NamedTuple):
    """A uint32 tensor as two int32 tensors (or numbers), each in 0 .. 65535."""

    hi: ir.Value | int
    lo: ir.Value | int


def words_of_int64(op: OpBuilder, value: ir.Value) -> tuple[Word, Word]:
    """Split a non-negative int64 tensor into its low and its high 32 bits.

    OpenVINO's CPU plugin narrows int64 to its lower 32 bits and divides integers as float32. So a limb is taken by
    BitwiseAnd, the quotient is of a number with at most 16 bits that are not 0, and what has become negative has no
    high word: values below 2^32 are exact there.
    """
    limbs = []
    for index in range(4):
        if index == 2:
            value = op.Max(value, 0)
        limb = op.BitwiseAnd(value, LIMB - 1)
        limbs.append(op.Cast(limb, to=ir.DataType.INT32))
        value = op.Div(op.Sub(value, limb), LIMB)
    return Word(limbs[1], limbs[0]), Word(limbs[3], limbs[2])


def threefry2x32(op: OpBuilder, key: tuple[Word, Word], counter: tuple[Word, Word]) -> tuple[Word, Word]:
    """Encrypt `counter` under `key`; key and counter broadcast against each other."""
    schedule = (*key, _xor(op, _xor(op, *key), Word(THREEFRY_KEY_PARITY >> 16, THREEFRY_KEY_PARITY & 0xFFFF)))

    x0, x1 = _add(op, counter[0], schedule[0]), _add(op, counter[1], schedule[1])
    for round_ in range(THREEFRY_ROUNDS):
        x0 = _add(op, x0, x1)
        x1 = _xor(op, _rotate_left(op, x1, THREEFRY_ROTATIONS[round_ % 8]), x0)
        if round_ % 4 == 3:
            injection = round_ // 4 + 1
            x0 = _add(op, x0, schedule[injection % 3])
            x1 = _add(op, _add(op, x1, schedule[(injection + 1) % 3]), Word(0, injection))
    return x0, x1


def uniform(op: OpBuilder, word: Word) -> ir.Value:
    """The word's upper 24 bits as float32 in [0, 1): every value is a multiple of 2^-24, so none is rounded."""
    bits_24 = op.Add(op.Mul(word.hi, 256), op.Div(word.lo, 256))
    return op.Mul(op.Cast(bits_24, to=ir.DataType.FLOAT), 2.0**-24)


def _add(op: OpBuilder, a: Word, b: Word) -> Word:
    lo = op.Add(a.lo, b.lo)
    hi = op.Add(op.Add(a.hi, b.hi), op.Div(lo, LIMB))
    return Word(op.Mod(hi, LIMB), op.Mod(lo, LIMB))


def _xor(op: OpBuilder, a: Word, b: Word) -> Word:
    return Word(op.BitwiseXor(a.hi, b.hi), op.BitwiseXor(a.lo, b.lo))


def _rotate_left(op: OpBuilder, a: Word, bits: int) -> Word:
    hi, lo = (a.lo, a.hi) if bits >= 16 else (a.hi, a.lo)
    bits %= 16
    if bits == 0:
        return Word(hi, lo)
    left, right = 1 << bits, 1 << (16 - bits)
    return Word(
        op.Add(op.Mod(op.Mul(hi, left), LIMB), op.Div(lo, right)),
        op.Add(op.Mod(op.Mul(lo, left), LIMB), op.Div(hi, right)),
    )
