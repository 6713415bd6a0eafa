"""MurmurHash3 (x86, 32 bits) as Vowpal Wabbit uses it, over bytes wherever they lie in memory.

Notes
-----
Values are hashed straight from Arrow buffers, so the kernels take addresses; the array variants
serve buffers that numpy owns. Four bytes are read at a time from addresses that need not be
aligned, never a byte outside the value: the last one to three bytes are cut out of the word that
ends where the value ends.

References
----------
[^1]: Austin Appleby, `MurmurHash3 <https://github.com/aappleby/smhasher>`_, public domain.
"""

from __future__ import annotations

import ctypes
from typing import Any

import mmh3
import numpy as np

from onlinestack.kernel import array_at, kernel

__all__ = [
    "murmur",
    "murmur_at",
    "stirred",
    "uniform_hash",
    "vw_hash",
    "vw_hash_at",
    "vw_hash_string",
]

C1 = np.uint32(0xCC9E2D51)
C2 = np.uint32(0x1B873593)
C3 = np.uint32(0xE6546B64)
F1 = np.uint32(0x85EBCA6B)
F2 = np.uint32(0xC2B2AE35)


def uniform_hash(data: bytes, seed: int) -> int:
    """Return Vowpal Wabbit's ``uniform_hash``: MurmurHash3 of the bytes, unsigned.

    Use it where single values are hashed from Python; buffers are hashed by the kernels.

    Parameters
    ----------
    data
        The bytes to hash.
    seed
        Start value, 0 to 2**32 - 1.

    Examples
    --------
    >>> uniform_hash(b"f", 0), uniform_hash(b"f", 7)
    (728008763, 1783764664)
    """
    return mmh3.hash(data, seed, signed=False)


def vw_hash_string(data: bytes, seed: int) -> int:
    """Return the hash of a feature name under Vowpal Wabbit's ``--hash strings``.

    Bytes up to and including the blank are trimmed from both ends; what is left counts as a
    number, added to the seed, when it is all digits, and is hashed otherwise.

    Parameters
    ----------
    data
        The name as written.
    seed
        Hash of the namespace.

    Examples
    --------
    >>> vw_hash_string(b" 12 ", 728008763) == vw_hash_string(b"0012", 728008763) == 728008775
    True
    >>> vw_hash_string(b"a", 728008763)
    282867731
    """
    start, stop = 0, len(data)
    while start < stop and data[start] <= 0x20:
        start += 1
    while start < stop and data[stop - 1] <= 0x20:
        stop -= 1
    name = data[start:stop]
    if all(0x30 <= byte <= 0x39 for byte in name):
        number = 0
        for byte in name:
            number = (10 * number + byte - 0x30) % 2**64
        return (number + seed) % 2**32
    return uniform_hash(name, seed)


def _murmur_plain(data: bytes, seed: int) -> int:
    """State MurmurHash3 over Python integers, byte by byte as the reference does."""
    ones = 0xFFFFFFFF

    def rotate(x: int, bits: int) -> int:
        return (x << bits | x >> (32 - bits)) & ones

    h = seed
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * int(C1) & ones
        h ^= rotate(k, 15) * int(C2) & ones
        h = (rotate(h, 13) * 5 + int(C3)) & ones
    k = int.from_bytes(data[whole:], "little") * int(C1) & ones
    h ^= rotate(k, 15) * int(C2) & ones
    h ^= len(data)
    h = (h ^ h >> 16) * int(F1) & ones
    h = (h ^ h >> 13) * int(F2) & ones
    return h ^ h >> 16


@kernel()
def stirred(h: Any) -> Any:
    """Return a ``uint32`` whose every bit depends on all bits of another: MurmurHash3's last step.

    Examples
    --------
    >>> import numpy as np
    >>> [int(stirred(np.uint32(h))) for h in (0, 1, 2)]
    [0, 1364076727, 821347078]
    """
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * F1)
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * F2)
    return np.uint32(h ^ (h >> np.uint32(16)))


def _murmur_at(address: int, length: int, seed: Any) -> Any:
    """Return MurmurHash3 of the ``length`` bytes at an address.

    Parameters
    ----------
    address
        Where the bytes lie; read as given, so keep the buffer alive.
    length
        Number of bytes.
    seed
        ``uint32`` start value.

    Returns
    -------
    The hash, ``uint32``.
    """
    return np.uint32(_murmur_plain(ctypes.string_at(int(address), int(length)), int(seed)))


@kernel(_murmur_at)
def murmur_at(address: int, length: int, seed: Any) -> Any:
    """Read the bytes where they lie, a word at a time, in place of a copy."""
    # The tail comes from the word that ends with the value, shifted down. A tail of nothing
    # shifts everything out, and a zero word leaves the hash as it is.
    h = np.uint32(seed)
    blocks = length >> 2
    words = array_at(address, blocks, np.uint32)
    for i in range(blocks):
        k = np.uint32(words[i] * C1)
        k = np.uint32((k << np.uint32(15)) | (k >> np.uint32(17)))
        h = np.uint32(h ^ np.uint32(k * C2))
        h = np.uint32((h << np.uint32(13)) | (h >> np.uint32(19)))
        h = np.uint32(h * np.uint32(5) + C3)
    rest = length & 3
    tail = np.uint64(0)
    if length >= 4:
        last = array_at(address + length - 4, 1, np.uint32)[0]
        tail = np.uint64(last) >> np.uint64(32 - 8 * rest)
    elif length > 0:
        bytes_ = array_at(address, length, np.uint8)
        middle = length >> 1
        tail = np.uint64(bytes_[0])
        tail |= np.uint64(bytes_[middle]) << np.uint64(8 * middle)
        tail |= np.uint64(bytes_[length - 1]) << np.uint64(8 * (length - 1))
    k = np.uint32(np.uint32(tail) * C1)
    k = np.uint32((k << np.uint32(15)) | (k >> np.uint32(17)))
    h = np.uint32(h ^ np.uint32(k * C2))
    return stirred(np.uint32(h ^ np.uint32(length)))


def _murmur(data: Any, start: int, stop: int, seed: Any) -> Any:
    """Return MurmurHash3 of ``data[start:stop]``.

    Parameters
    ----------
    data
        ``uint8[n]``, contiguous.
    start, stop
        First byte and the one behind the last.
    seed
        ``uint32`` start value.

    Returns
    -------
    The hash, ``uint32``.

    Examples
    --------
    >>> import numpy as np
    >>> int(murmur(np.frombuffer(bytearray(b"|f ab"), np.uint8), 3, 5, np.uint32(0)))
    2613040991
    """
    return np.uint32(_murmur_plain(bytes(data[start:stop]), int(seed)))


@kernel(_murmur)
def murmur(data: Any, start: int, stop: int, seed: Any) -> Any:
    """Hash the same bytes by their address."""
    return murmur_at(data.ctypes.data + start, stop - start, seed)


def _vw_hash_at(address: int, length: int, seed: Any) -> Any:
    """Return ``vw_hash_string`` of the ``length`` bytes at an address, as ``uint32``."""
    return np.uint32(vw_hash_string(ctypes.string_at(int(address), int(length)), int(seed)))


@kernel(_vw_hash_at)
def vw_hash_at(address: int, length: int, seed: Any) -> Any:
    """Tell a number from a name while reading it, in one pass."""
    name = array_at(address, length, np.uint8)
    start, stop = 0, length
    while start < stop and name[start] <= 0x20:
        start += 1
    while start < stop and name[stop - 1] <= 0x20:
        stop -= 1
    number = np.uint64(0)
    for i in range(start, stop):
        digit = np.uint64(name[i]) - np.uint64(0x30)
        if digit > np.uint64(9):
            return murmur_at(address + start, stop - start, seed)
        number = number * np.uint64(10) + digit
    return np.uint32(np.uint32(number) + np.uint32(seed))


def _vw_hash(data: Any, start: int, stop: int, seed: Any) -> Any:
    """Return ``vw_hash_string`` of ``data[start:stop]`` (``uint8[n]``), as ``uint32``."""
    return np.uint32(vw_hash_string(bytes(data[start:stop]), int(seed)))


@kernel(_vw_hash)
def vw_hash(data: Any, start: int, stop: int, seed: Any) -> Any:
    """Hash the same bytes by their address."""
    return vw_hash_at(data.ctypes.data + start, stop - start, seed)
