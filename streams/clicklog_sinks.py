"""Where a generated click log is written: Parquet, CSV or Vowpal Wabbit's text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

__all__ = ["CsvSink", "ParquetSink", "Sink", "VwSink", "open_sink"]


class Sink(Protocol):
    """Where batches are written."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch."""

    def close(self) -> None:
        """Finish the file."""


class ParquetSink:
    """Parquet: dictionary pages as pyarrow makes them, a row group a batch.

    Compressed with zstd, or with snappy, pyarrow's own choice, where the name ends in
    ``.snappy.parquet``.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        snappy = ".snappy" in path.suffixes
        self._writer = pq.ParquetWriter(path, schema, compression="snappy" if snappy else "zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class CsvSink:
    """CSV with a header, no quotes (no value needs them), empty where missing."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._stream = _output(path)
        self._stream.write((",".join(schema.names) + "\n").encode())
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
        self._writer = pyarrow.csv.CSVWriter(self._stream, schema, write_options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        self._stream.close()


class VwSink:
    """Vowpal Wabbit's text: ``1 |f I1=5 C1=68fd1e64``, -1 for no click, missing fields left out."""

    def __init__(self, path: Path, label: str, leave_out: Sequence[str | None]) -> None:
        self._stream = _output(path)
        self._label = label
        self._leave_out = {label, *leave_out}

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch."""
        tokens = [pc.if_else(pc.equal(batch[self._label], 1), "1 |f", "-1 |f")]
        for name in batch.schema.names:
            if name not in self._leave_out:
                text = pc.cast(batch[name], pa.string())
                tokens.append(pc.binary_join_element_wise(f"{name}=", text, ""))
        lines = pc.binary_join_element_wise(*tokens, " ", null_handling="skip")
        lines = pc.binary_join_element_wise(lines, "\n", "")
        # the text of all lines lies together in the last buffer of the array
        offsets = np.frombuffer(lines.buffers()[1], dtype=np.int32, count=len(lines) + 1)
        self._stream.write(lines.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])))

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()


def _output(path: Path) -> Any:
    plain = pa.OSFile(str(path), "wb")
    if path.suffix == ".zst":
        return pa.CompressedOutputStream(plain, "zstd")
    if path.suffix == ".gz":
        return pa.CompressedOutputStream(plain, "gzip")
    return plain


def open_sink(
    path: Path, schema: pa.Schema, label: str, leave_out: Sequence[str | None] = ()
) -> Sink:
    """Open the sink that a file's name asks for: .parquet, .csv, .vw, each text also .gz, .zst.

    Raises
    ------
    ValueError
        If the name ends in none of these.
    """
    suffixes = [s for s in path.suffixes if s in (".parquet", ".csv", ".vw", ".gz", ".zst")]
    if suffixes[-1:] == [".parquet"]:
        return ParquetSink(path, schema)
    if suffixes[:1] == [".csv"]:
        return CsvSink(path, schema)
    if suffixes[:1] == [".vw"]:
        return VwSink(path, label, leave_out)
    raise ValueError(f"{path} ends in none of .parquet, .csv and .vw (or the last two + .gz, .zst)")
