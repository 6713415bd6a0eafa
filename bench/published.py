"""Turn Criteo's and Avazu's click logs, as published, into streams of the benches.

    python bench/published.py criteo_kaggle train.txt DATA/criteo_kaggle.parquet
    python bench/published.py avazu_kaggle train.gz DATA/avazu_kaggle.parquet

The first is the ``train.txt`` of the Display Advertising Challenge (Kaggle 2014, 45.8 M lines: a
label, 13 integers, 26 hashed categories, parted by tabs, no header), the second the ``train.gz`` of
Click-Through Rate Prediction (Kaggle 2014, 40.4 M lines of CSV). Both are for research, under their
own terms, and are not downloaded here. The order of lines stays: it is the order of time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

__all__ = ["convert", "main"]

CRITEO = ["label", *(f"I{k}" for k in range(1, 14)), *(f"C{k}" for k in range(1, 27))]
READING = {
    "criteo_kaggle": (
        pa.csv.ReadOptions(column_names=CRITEO),
        pa.csv.ParseOptions(delimiter="\t"),
        {name: pa.string() if name[0] == "C" else pa.int64() for name in CRITEO},
    ),
    "avazu_kaggle": (
        pa.csv.ReadOptions(),
        pa.csv.ParseOptions(),
        {"id": pa.string(), "hour": pa.string()},
    ),
}


def convert(name: str, published: Path, out: Path) -> int:
    """Write a published log as Parquet, block by block; return how many records it has."""
    reading, parsing, types = READING[name]
    converting = pa.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True
    )
    records = 0
    with pa.csv.open_csv(
        published, read_options=reading, parse_options=parsing, convert_options=converting
    ) as batches:
        with pq.ParquetWriter(out, batches.schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                records += batch.num_rows
    return records


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 3 or arguments[0] not in READING:
        print(__doc__, file=sys.stderr)
        return 2
    name, published, out = arguments
    try:
        print(f"{convert(name, Path(published), Path(out)):,} records")
    except (OSError, pa.ArrowInvalid) as error:
        print(f"published.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
