"""Hash equality: with mmh3, with Vowpal Wabbit's documented vectors, kernel with twin."""

from __future__ import annotations

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.kernel import KERNELS
from onlinestack.murmur import (
    murmur,
    murmur_at,
    uniform_hash,
    vw_hash,
    vw_hash_at,
    vw_hash_string,
)

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789 \t", max_size=30).map(str.encode),
)


def array(data: bytes) -> np.ndarray:
    """Return the bytes between two others, so that no read outside them goes unseen."""
    return np.frombuffer(bytearray(b"\xff" + data + b"\xff"), np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a", 1009084850),
        (b"f", 728008763),
        (b"ab", 2613040991),
        (b"abc", 3017643002),
        (b"abcd", 1139631978),
        (b"abcde", 3902511862),
        (b"hello world", 1586663183),
    ],
)
def test_vectors(data: bytes, expected: int) -> None:
    assert uniform_hash(data, 0) == expected
    assert murmur(array(data), 1, 1 + len(data), np.uint32(0)) == expected


def test_vectors_of_names() -> None:
    namespace = uniform_hash(b"f", 0)
    assert uniform_hash(b"f", 7) == 1783764664
    for name, expected in [(b"a", 282867731), (b"12", 728008775), ("été".encode(), 349754397)]:
        assert vw_hash_string(name, namespace) == expected
        assert vw_hash(array(name), 1, 1 + len(name), np.uint32(namespace)) == expected
    assert vw_hash_string(b"foo", vw_hash_string(b"a", namespace)) % 2**18 == 217333
    assert vw_hash_string(b"4294967297", 0) == 1
    assert vw_hash_string(b"", namespace) == namespace
    assert vw_hash_string(b"-7", 0) == uniform_hash(b"-7", 0)


@given(st.binary(max_size=70), SEEDS)
def test_murmur_equals_mmh3(data: bytes, seed: int) -> None:
    expected = mmh3.hash(data, seed, signed=False)
    raw = array(data)
    for version in KERNELS["onlinestack.murmur.murmur"]:
        assert version(raw, 1, 1 + len(data), np.uint32(seed)) == expected
    for version in KERNELS["onlinestack.murmur.murmur_at"]:
        assert version(raw.ctypes.data + 1, len(data), np.uint32(seed)) == expected
    assert murmur_at(raw.ctypes.data + 1, len(data), np.uint32(seed)) == expected


@given(NAMES, SEEDS)
def test_vw_hash_equals_its_twin(data: bytes, seed: int) -> None:
    expected = vw_hash_string(data, seed)
    raw = array(data)
    for version in KERNELS["onlinestack.murmur.vw_hash"]:
        assert version(raw, 1, 1 + len(data), np.uint32(seed)) == expected
    for version in KERNELS["onlinestack.murmur.vw_hash_at"]:
        assert version(raw.ctypes.data + 1, len(data), np.uint32(seed)) == expected
    assert vw_hash_at(raw.ctypes.data + 1, len(data), np.uint32(seed)) == expected
