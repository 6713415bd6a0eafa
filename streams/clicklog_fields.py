"""The fields of a generated click log: how values are drawn, what they do to clicks, how they read.

A field makes one column of a stretch from raw random bits, and adds what its values mean for a
click to the score of the stretch.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = [
    "BUCKETS",
    "F64",
    "U64",
    "Category",
    "Draws",
    "Number",
    "Salts",
    "Stretch",
    "mix",
    "normal",
    "sigmoid",
    "uniform",
    "weights",
]

BUCKETS = 256  # values of a drifting field share this many random walks
MISSING = np.uint64(2**64 - 1)

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

_HEX = np.frombuffer(b"".join(b"%04x" % i for i in range(65536)), dtype=np.uint32)
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 4096) for i in range(4096)])
_OCTETS = pa.array([str(i) for i in range(256)])


def mix(x: U64) -> U64:
    """Scramble 64-bit integers: two rounds of multiplying and folding the high half down."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    x ^= x >> np.uint64(32)
    return x


def uniform(bits: U64) -> F64:
    """Turn raw bits into numbers in [0, 1)."""
    u: F64 = np.multiply(bits >> np.uint64(11), 2.0**-53, dtype=np.float64)
    return u


def normal(bits: U64) -> F64:
    """Turn raw bits into nearly normal numbers: the sum of four uniforms, scaled to variance 1."""
    lanes = np.uint64(0x0000FFFF0000FFFF)
    sums = (bits & lanes) + ((bits >> np.uint64(16)) & lanes)
    sums += sums >> np.uint64(32)
    sums &= np.uint64(0x3FFFF)
    z: F64 = np.multiply(sums, 3.0**0.5 / 65536.0, dtype=np.float64) - 2.0 * 3.0**0.5
    return z


def weights(code: U64, salt: np.uint64) -> F64:
    """Look up the normal weight that each code has for ever."""
    return _NORMAL[(mix(code + salt) >> np.uint64(52)).astype(np.intp)]


def sigmoid(x: F64) -> F64:
    """Turn log-odds into probabilities."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


class Salts:
    """Constants that depend on the seed and a name, and on nothing else."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str) -> np.uint64:
        """Make the constant of a name."""
        entropy = [self.seed, zlib.crc32(name.encode())]
        return np.uint64(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


class Draws:
    """Hands out rows of the stretch's raw bits, one row for each thing that is random."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self) -> int:
        """Take the next row."""
        self.rows += 1
        return self.rows - 1


class Stretch:
    """What is known of one stretch while its fields are made, in order of the layout."""

    def __init__(self, bits: U64, days: F64, hour: U64) -> None:
        self.bits = bits
        self.days = days
        self.codes: dict[str, U64] = {"hour": hour}
        self.missing: dict[str, Flags] = {}
        self.score: F64 = np.zeros(len(days))


class Category:
    """A categorical field: draws codes, adds their effects to the score, writes them as text."""

    def __init__(
        self, spec: Mapping[str, Any], salts: Salts, draws: Draws, known: Mapping[str, Any]
    ) -> None:
        self.name: str = spec["name"]
        words = spec.get("words")
        self.words = None if words is None else pa.array(words)
        self.values: int = spec["values"] if words is None else len(words)
        self.form: str = spec.get("form", "hex")
        self.zipf: float = spec["zipf"]
        self.flat: float = spec.get("flat", 0.0)
        self.parent: str | None = spec.get("parent")
        self.near: str | None = spec.get("near")
        self.life: float = spec.get("life", 0.0)
        self.share: float = spec.get("missing", 0.0)
        self.missing_with: str | None = spec.get("missing_with")
        self.effect: float = spec.get("effect", 0.0)
        self.drift: float = spec.get("drift", 0.0)
        self.span = self.values * (known[self.parent].span if self.parent else 1)
        self.salt = salts(self.name)
        self.life_salt = salts(self.name + ".life")
        self.draw = known[spec["draw"]].draw if "draw" in spec else draws()
        self.missing_draw = draws() if self.share else -1
        self.type = pa.string()

    def make(self, s: Stretch, walk: F64 | None) -> pa.Array:
        """Make the column of a stretch and add its effect to the score."""
        slot = self._rank(uniform(s.bits[self.draw]))
        if self.near:
            slot = (slot + s.codes[self.near]) % np.uint64(self.values)
        if self.parent:
            slot += s.codes[self.parent] * np.uint64(self.values)
        code = slot
        if self.life:
            fate = mix(slot + self.life_salt)
            span = self.life * (0.25 + 1.5 * ((fate >> np.uint64(32)) * 2.0**-32))
            phase = (fate & np.uint64(0xFFFFFFFF)) * 2.0**-32
            generation = np.floor(s.days / span + phase).astype(np.uint64)
            code = slot + generation * np.uint64(self.span)
        absent = _absent(s, self.share, self.missing_draw, self.missing_with or self.parent)
        if absent is not None:
            code = np.where(absent, MISSING, code)
            s.missing[self.name] = absent
        s.codes[self.name] = code
        if self.effect:
            s.score += self.effect * weights(code, self.salt)
        if walk is not None:
            s.score += walk[(slot & np.uint64(BUCKETS - 1)).astype(np.intp)]
        return self._text(code, absent)

    def _rank(self, u: F64) -> U64:
        # the inverse of the integral of (rank + flat)^-zipf: no table, however many values
        power = 1.0 - (self.zipf if self.zipf != 1.0 else 1.000001)
        low, high = (self.flat + 1.0) ** power, (self.flat + self.values + 1.0) ** power
        rank = (low + u * (high - low)) ** (1.0 / power) - (self.flat + 1.0)
        # rounding may take the ends a hair outside
        inside: U64 = np.minimum(np.abs(rank), self.values - 1).astype(np.uint64)
        return inside

    def _text(self, code: U64, absent: Flags | None) -> pa.Array:
        if self.words is not None:
            index = np.where(code == MISSING, 0, code).astype(np.int32)
            return self.words.take(pa.array(index, mask=absent))
        if self.form == "hex":
            return _hex(mix(code ^ self.salt), absent)
        if self.form == "ip":
            h = mix(code ^ self.salt)
            parts = [
                _OCTETS.take(pa.array(((h >> np.uint64(k)) & np.uint64(255)).astype(np.int32)))
                for k in (0, 8, 16)
            ]
            text = pc.binary_join_element_wise(*parts, "0", ".")
        else:
            text = pc.binary_join_element_wise(self.form, pc.cast(pa.array(code), pa.string()), "")
        return text if absent is None else pc.if_else(pa.array(absent), None, text)


class Number:
    """A numeric field: log-normal with zeros and missing values, and an effect that bends."""

    def __init__(self, spec: Mapping[str, Any], salts: Salts, draws: Draws) -> None:
        self.name: str = spec["name"]
        self.median: float = spec["median"]
        self.sd: float = spec["sd"]
        self.decimals: int = spec.get("decimals", 0)
        self.lowest: float = spec.get("lowest", 0)
        self.highest: float = spec.get("highest", 2**31 - 1)
        self.zero: float = spec.get("zero", 0.0)
        self.share: float = spec.get("missing", 0.0)
        self.missing_with: str | None = spec.get("missing_with")
        self.effect: float = spec.get("effect", 0.0)
        self.drift = 0.0
        self.shape: str = spec.get("shape", "rise")
        self.when_missing = (
            float(weights(np.zeros(1, np.uint64), salts(self.name))[0]) * self.effect
        )
        self.draw = draws()
        self.zero_draw = draws() if self.zero else -1
        self.missing_draw = draws() if self.share else -1
        self.type = pa.float64() if self.decimals else pa.int32()

    def make(self, s: Stretch, walk: F64 | None) -> pa.Array:
        """Make the column of a stretch and add its effect to the score."""
        z = normal(s.bits[self.draw])
        value = self.median * np.exp(self.sd * z)
        if self.zero:
            is_zero = uniform(s.bits[self.zero_draw]) < self.zero
            value = np.where(is_zero, 0.0, value)
            z = np.where(is_zero, -1.8, z)
        value = np.clip(value, self.lowest, self.highest)
        effect = self.effect * self._bend(z)
        code = np.clip(np.floor(1.5 * z) + 3.0, 0.0, 6.0).astype(np.uint64)
        absent = _absent(s, self.share, self.missing_draw, self.missing_with)
        if absent is not None:
            effect = np.where(absent, self.when_missing, effect)
            code = np.where(absent, MISSING, code)
            s.missing[self.name] = absent
        s.codes[self.name] = code
        s.score += effect
        if self.decimals:
            return pa.array(np.round(value, self.decimals), mask=absent)
        return pa.array(value.astype(np.int32), mask=absent)

    def _bend(self, z: F64) -> F64:
        if self.shape == "rise":
            return z
        if self.shape == "fall":
            return -z
        if self.shape == "hump":
            return (1.0 - z * z) * 0.7
        return np.sin(2.5 * z) * 1.3


def _absent(s: Stretch, share: float, draw: int, other: str | None) -> Flags | None:
    absent = s.missing.get(other) if other else None
    if not share:
        return absent
    own = uniform(s.bits[draw]) < share
    return own if absent is None else own | absent


def _hex(code: U64, absent: Flags | None) -> pa.Array:
    n = len(code)
    digits = np.empty((n, 2), dtype=np.uint32)
    digits[:, 0] = _HEX[(code >> np.uint64(48)).astype(np.intp)]
    digits[:, 1] = _HEX[((code >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.intp)]
    offsets = np.arange(0, 8 * n + 1, 8, dtype=np.int32)
    valid = None if absent is None else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(digits), valid)
