"""Records that come alone: the kernel, its twin, and the slow way agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onlinestack.features.encoder import Encoder
from onlinestack.features.singles import _fill_plain, fill_singles

FIELDS = {"a": "news", "b": 3.5, "c": 7, "d": "x", "e": None, "f": -0.25}
ODD = ("\0", "a\0b", "é", "\udcff", "", "x" * 10_000, ["a", "b"], [], b"raw", True, 10**400)


def given(encoder: Encoder, x: dict[str, Any]) -> tuple[list[int], list[float]]:
    block = encoder.block_one(x, None, 1.0)
    return block.index.tolist(), [float(v) for v in block.numbers[0]]


@pytest.mark.parametrize("odd", ODD, ids=[repr(value)[:12] for value in ODD])
@pytest.mark.parametrize("name", list(FIELDS))
def test_any_value_in_any_field_gives_what_the_slow_way_gives(name: str, odd: Any) -> None:
    encoder = Encoder()
    encoder.meet({**FIELDS, "e": "y"})
    for x in (FIELDS, FIELDS, {**FIELDS, name: odd}, FIELDS, {**FIELDS, name: None}):
        encoded = encoder.encode_one(x)
        index, numbers = encoded.index.tolist(), [float(v) for v in encoded.numbers[0]]
        got = given(encoder, x)
        assert got[0] == index
        assert np.array_equal(got[1], numbers, equal_nan=True)


def test_kernel_and_twin_agree() -> None:
    rng = np.random.default_rng(1)
    letters = np.frombuffer(b"abc\0", np.uint8)
    encoder = Encoder()
    encoder.meet({**FIELDS, "e": "y"})
    fields = encoder._fields_table
    for round_ in range(200):
        text = rng.choice(letters, rng.integers(0, 12))
        if round_ % 2:
            text = np.concatenate([[97] * rng.integers(0, 9) + [0] for _ in range(3)])
        text = text.astype(np.uint8)
        numbers = rng.choice([0.0, -1.5, np.nan, np.inf, -np.inf, 1e300, 3.0], 3)
        out = []
        for function in (fill_singles, _fill_plain):
            own, index = numbers.copy(), np.zeros(6, np.uint32)
            arrays = encoder._edges, encoder._hashes, own, index, np.zeros(4, np.int64)
            fits = bool(function(text, fields, *arrays, len(text)))
            out.append((fits, index.tolist() if fits else [], np.nan_to_num(own).tolist()))
        assert out[0] == out[1]
        assert out[0][0] == (text.tolist().count(0) == 3 and text[-1:].tolist() == [0])
