"""The snapshot file: named arrays and one JSON object, written whole or not at all.

A snapshot is one safetensors file: eight bytes that give the length of a JSON header, the header,
the bytes of the arrays. The header holds one metadata key, ``onlinestack``, whose value is
canonical JSON of the format version, a checksum and the caller's object. Reading it is reading
JSON and bytes; no code in it can run.

This module knows names, arrays and JSON, and no part of a learner.

Notes
-----
Written here and not through the safetensors package, for three reasons: the arrays go to the
file without a copy, a full disk is an ``OSError`` with its number, and the checksum covers every
byte, the header's too (it is computed with zeros in its own place). The package reads the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.atomic import replacing, sentence, write_all

__all__ = ["FORMAT", "SnapshotError", "load", "save"]

FORMAT: int = 1
"""Version of the file format; a file of a newer one is refused."""

_KEY = "onlinestack"
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_FLOAT = "$float"
_ZEROS = "0" * 64
_PIECE = 1 << 22
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors package


class SnapshotError(ValueError):
    """A snapshot that cannot be opened; one sentence says why and what to do."""


# ----------------------------------------------------------------------------------------- save


def save(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Any) -> None:
    """Write arrays and an object to a file, which afterwards holds the old or the new content.

    The content goes to ``PATH.tmp`` beside the file, to the disk, and only then takes the name;
    whenever the process dies, the file is whole. Equal content gives equal bytes.

    Parameters
    ----------
    path
        Where the snapshot shall be. A symbolic link is followed; an existing file keeps its mode.
    arrays
        Named numpy arrays of any shape: booleans, integers and floats of 8 to 64 bits.
    meta
        Dicts with text keys, lists, tuples (read back as lists), text, numbers, booleans and
        None. Floats come back exactly, NaN and infinities too.

    Raises
    ------
    OSError
        When the file cannot be written, with one sentence that names it; nothing is left behind.
    TypeError
        When ``arrays`` or ``meta`` hold something that cannot be kept.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model", {"w": np.arange(3)}, {"rate": 0.1})
    ...     load(f"{folder}/model")
    ({'w': array([0, 1, 2])}, {'rate': 0.1})
    """
    name = os.fspath(path)
    plain = [(key, _plain_array(key, arrays[key])) for key in arrays]
    plain.sort(key=lambda item: (-item[1].dtype.itemsize, item[0]))  # so that all are aligned
    header = _header(plain, meta)
    digest = hashlib.blake2b(header, digest_size=32)
    try:
        with replacing(name) as file:
            write_all(file, header)
            for _, array in plain:
                for piece in _pieces(array):
                    write_all(file, piece)
                    digest.update(piece)
            file.seek(header.index(_ZEROS.encode()))
            write_all(file, digest.hexdigest().encode())
    except OSError as error:
        raise sentence(error, f"the snapshot could not be saved to {name!r}") from error


def _plain_array(name: str, array: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(array, order="C")
    dtype = array.dtype.newbyteorder("<")
    if name == "__metadata__" or dtype not in _CODES:
        raise TypeError(
            f"the array {name!r} of {array.dtype} cannot be kept in a snapshot; "
            "use booleans, integers or floats of at most 64 bits"
        )
    return array.astype(dtype, copy=False)


def _header(plain: list[tuple[str, NDArray[Any]]], meta: Any) -> bytes:
    """Return the length and the header, its checksum not yet filled in."""
    content = {"checksum": _ZEROS, "format": FORMAT, "meta": _plain(meta, "meta")}
    table: dict[str, Any] = {"__metadata__": {_KEY: _canonical(content)}}
    end = 0
    for name, array in plain:
        begin, end = end, end + array.nbytes
        code = _CODES[array.dtype]
        table[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise TypeError(
            f"the object beside the arrays takes {len(text):,} bytes of the "
            f"{_LONGEST_HEADER:,} that fit into a snapshot; keep large things in arrays"
        )
    return len(text).to_bytes(8, "little") + text


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any, where: str) -> Any:
    """Return the value in terms of JSON; floats that JSON lacks become ``{"$float": "inf"}``."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        if _FLOAT not in value:
            return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__name__} that cannot be kept in a snapshot; "
        "use dicts with text keys, lists, text, numbers, booleans and None"
    )


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    flat = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(flat), _PIECE):
        yield flat[start : start + _PIECE]


# ----------------------------------------------------------------------------------------- load


def load(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], Any]:
    """Read a file that ``save`` wrote.

    Parameters
    ----------
    path
        The snapshot.

    Returns
    -------
    The arrays by name, writable and each with its own memory, and the object.

    Raises
    ------
    SnapshotError
        When there is no such file, or it is not a snapshot, damaged, cut short or of a newer
        format; one sentence says which.
    """
    name = os.fspath(path)
    try:
        if os.path.isdir(name):
            raise SnapshotError(f"{name!r} is a folder; give the snapshot file in it")
        if os.path.exists(name) and not os.path.isfile(name):
            raise SnapshotError(f"{name!r} is no ordinary file; give one saved by onlinestack")
        with FileIO(name) as file:
            return _read(file, name)
    except FileNotFoundError:
        raise SnapshotError(f"there is no snapshot {name!r}; check the name") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SnapshotError(
            f"the snapshot {name!r} cannot be read ({reason}); mend that first"
        ) from error
    except _DamagedError:
        raise SnapshotError(
            f"the snapshot {name!r} is damaged or cut short; take an older copy or start anew"
        ) from None


class _DamagedError(Exception):
    """The bytes are not those that were written."""


def _read(file: FileIO, name: str) -> tuple[dict[str, NDArray[Any]], Any]:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise SnapshotError(f"the snapshot {name!r} is empty; take an older copy or start anew")
    start = _fill(file, bytearray(min(8, size)))
    length = int.from_bytes(start, "little")
    header = bytes(_fill(file, bytearray(max(0, min(length, size - 8, _LONGEST_HEADER)))))
    if _KEY.encode() not in header and size > 8:
        raise SnapshotError(f"{name!r} is not a snapshot of onlinestack; give a file saved by it")
    try:
        table = json.loads(header)
        content = json.loads(table.pop("__metadata__")[_KEY], object_hook=_restore)
        version = content["format"]
        if isinstance(version, int) and version > FORMAT:
            raise SnapshotError(
                f"the snapshot {name!r} has format {version}, this onlinestack reads formats up "
                f"to {FORMAT}; install a newer one"
            )
        checksum = content["checksum"].encode()
        if version != FORMAT or len(checksum) != len(_ZEROS):
            raise _DamagedError
        digest = hashlib.blake2b(start, digest_size=32)
        digest.update(header.replace(checksum, _ZEROS.encode(), 1))
        arrays = _arrays(file, table, size - 8 - length, digest)
    except SnapshotError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _DamagedError from None
    if digest.hexdigest().encode() != checksum:
        raise _DamagedError
    return arrays, content["meta"]


def _arrays(file: FileIO, table: dict[str, Any], size: int, digest: Any) -> dict[str, NDArray[Any]]:
    """Read the arrays in the order they lie in the file, which they must fill."""
    arrays: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        begin, stop = entry["data_offsets"]
        if begin != end or stop > size or stop - begin != math.prod(shape) * dtype.itemsize:
            raise _DamagedError
        arrays[name] = array = np.empty(shape, dtype)
        for piece in _pieces(array):
            _fill(file, piece)
            digest.update(piece)
        end = stop
    if end != size:
        raise _DamagedError
    return arrays


def _fill(file: FileIO, buffer: Any) -> Any:
    view = memoryview(buffer)
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise _DamagedError
        done += count
    return buffer


def _restore(mapping: dict[str, Any]) -> Any:
    return float(mapping[_FLOAT]) if mapping.keys() == {_FLOAT} else mapping
