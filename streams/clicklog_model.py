"""The model behind a generated click log: when records come, what is in them, who clicks.

Notes
-----
The log is made in stretches of 4,096 records. All randomness of a stretch comes from raw 64-bit
draws of a generator seeded with (seed, number of the stretch), so the log is the same whatever
the batch size, shorter logs are the beginning of longer ones, and memory does not grow with the
number of records. Only raw bits are taken from numpy: those are promised to stay the same over
its versions, its distributions are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from clicklog_fields import (
    BUCKETS,
    F64,
    U64,
    Category,
    Draws,
    Number,
    Salts,
    Stretch,
    mix,
    normal,
    sigmoid,
    uniform,
    weights,
)
from clicklog_layout import load_layout

__all__ = ["CLICK_TIME", "ClickLog"]

STRETCH = 4096
CLICK_TIME = "click_time"
LONGEST_DELAY_DAYS = 3.0
DAY_MS = 86_400_000.0


class Rhythm:
    """The week: how many records arrive when, and how the click rate goes with the hour."""

    STEPS = 7 * 24 * 12

    def __init__(self, start: datetime) -> None:
        midnight = start.hour / 24 + start.minute / 1440 + start.second / 86400
        self.offset = start.weekday() + midnight
        grid: F64 = np.linspace(0.0, 7.0, 2 * self.STEPS + 1)[1::2]
        # the curve is laid over the calendar, the stream starts at `offset` inside it
        daily = (grid + midnight) % 1.0
        traffic = (1.0 - 0.65 * np.cos(2 * np.pi * (daily - 3.5 / 24))) * np.where(
            ((grid + self.offset) % 7) < 5, 1.0, 0.85
        )
        traffic /= traffic.mean()
        self.mean_rate = float((traffic * self._rate(daily)).mean())
        self.edges = np.linspace(0.0, 7.0, self.STEPS + 1)
        self.arrived = np.concatenate([[0.0], np.cumsum(traffic) * (7.0 / self.STEPS)])

    @staticmethod
    def _rate(day: F64) -> F64:
        return 1.0 + 0.25 * np.sin(2 * np.pi * (day - 0.6)) + 0.1 * np.sin(4 * np.pi * day)

    def days(self, position: F64) -> F64:
        """Turn positions in the stream, in mean days of traffic, into days since its start."""
        week = np.floor(position / 7.0)
        inside = np.interp(position - 7.0 * week, self.arrived, self.edges)
        return np.asarray(week * 7.0 + inside)

    def rate(self, days: F64) -> F64:
        """Click rate at a time, relative to that of a whole week."""
        return self._rate((days + self.offset) % 1.0) / self.mean_rate


class ClickLog:
    """A seeded click log, made batch by batch.

    Use it where a test or a bench needs many records that look like a real log; use real data to
    judge a learner.

    Parameters
    ----------
    layout
        Name of a layout (``web``, ``criteo``) or path of a TOML file.
    seed
        Non-negative integer; the same seed gives the same log.
    click_rate
        Share of clicks over whole days, between 0 and 1; the layout's by default.
    per_day
        Mean number of records in a day of stream time; the layout's by default.

    Raises
    ------
    ValueError
        If a parameter is out of range or the layout has unknown keys.

    Examples
    --------
    >>> log = ClickLog("web", seed=0)
    >>> batch = next(log.batches(1000))
    >>> batch.num_rows, batch.schema.names[:4]
    (1000, ['click', 'id', 'time', 'country'])
    """

    def __init__(
        self,
        layout: str | Path = "web",
        *,
        seed: int = 0,
        click_rate: float | None = None,
        per_day: float | None = None,
    ) -> None:
        spec = load_layout(layout)
        log = spec["log"]
        self.seed = seed
        self.click_rate: float = log["click_rate"] if click_rate is None else click_rate
        self.per_day: float = log["per_day"] if per_day is None else per_day
        if seed < 0:
            raise ValueError(f"seed is {seed}; give a non-negative integer")
        if not 0.0 < self.click_rate < 1.0:
            raise ValueError(f"click_rate is {self.click_rate}; give a number between 0 and 1")
        if not self.per_day > 0.0:
            raise ValueError(f"per_day is {self.per_day}; give a number above 0")
        self.label: str = log["label"]
        self.id: str | None = log.get("id")
        self.time: str | None = log.get("time")
        self.delay_minutes: float = log["delay_minutes"]
        self.delay_sd: float = log["delay_sd"]
        start: datetime = log["start"]
        self._start_ms = int(start.timestamp() * 1000)
        self._rhythm = Rhythm(start)
        salts, draws = Salts(seed), Draws()
        self._time_draw, self._id_draw = draws(), draws()
        self._click_draw, self._delay_draw = draws(), draws()
        fields: dict[str, Category | Number] = {}
        for one in spec["field"]:
            fields[one["name"]] = (
                Category(one, salts, draws, fields)
                if one["kind"] == "category"
                else Number(one, salts, draws)
            )
        self.fields = tuple(fields.values())
        self._pairs = [
            (first, second, float(pair["effect"]), salts(f"{first}*{second}"))
            for pair in spec.get("pair", [])
            for first, second in [pair["fields"]]
        ]
        self._drifting = [field for field in self.fields if field.drift]
        self._draws = draws.rows
        # before any drift the walks stand where they would after a long time
        self._first_walk = normal(self._bits(2**32, len(self._drifting), BUCKETS))

    def _bits(self, stretch: int, rows: int, columns: int) -> U64:
        source = np.random.SFC64(np.random.SeedSequence([self.seed, stretch]))
        return source.random_raw(rows * columns).reshape(rows, columns)

    def batches(
        self, records: int, batch_size: int = 65536, *, delayed: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Make the log, in batches.

        Parameters
        ----------
        records
            How many records to make.
        batch_size
            Records in a batch; the last may hold fewer. Does not change the log.
        delayed
            Add id and time whatever the layout, and `click_time`: when the click came, in
            milliseconds since 1970, null if it never did.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give a number above 0")
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for piece in self._stretches(records, delayed):
            waiting.append(piece)
            rows += piece.num_rows
            if rows < batch_size:
                continue
            table = pa.Table.from_batches(waiting)
            for start in range(0, rows - batch_size + 1, batch_size):
                yield _one_batch(table.slice(start, batch_size))
            rest = table.slice(rows - rows % batch_size)
            rows = rest.num_rows
            waiting = rest.to_batches()
        if rows:
            yield _one_batch(pa.Table.from_batches(waiting))

    def _stretches(self, records: int, delayed: bool) -> Iterator[pa.RecordBatch]:
        walk = self._first_walk.copy()
        before = 0.0
        bias = 0.0
        for number in range(-(-records // STRETCH)):
            first = number * STRETCH
            bits = self._bits(number, self._draws, STRETCH)
            index = first + np.arange(STRETCH, dtype=np.int64)
            days = self._rhythm.days((index + uniform(bits[self._time_draw])) / self.per_day)
            self._drift(walk, number, float(days[0]) - before)
            before = float(days[0])
            hour = np.floor((days + self._rhythm.offset) % 1.0 * 24.0).astype(np.uint64)
            s = Stretch(bits, days, hour)
            columns = []
            drifting = 0
            for field in self.fields:
                steps = None
                if field.drift:
                    steps = walk[drifting] * field.drift
                    drifting += 1
                columns.append(field.make(s, steps))
            for one, other, effect, salt in self._pairs:
                s.score += effect * weights(mix(s.codes[one]) + s.codes[other], salt)
            target = np.clip(self.click_rate * self._rhythm.rate(days), 1e-6, 1 - 1e-6)
            bias, chance = _calibrate(s.score + np.log(target / (1 - target)), target, bias)
            click = uniform(bits[self._click_draw]) < chance
            head: dict[str, pa.Array] = {self.label: pa.array(click.astype(np.int8))}
            ms = self._start_ms + np.floor(days * DAY_MS).astype(np.int64)
            ids = (
                10_000_000_000 + index * 16 + (bits[self._id_draw] & np.uint64(15)).astype(np.int64)
            )
            if self.id or delayed:
                head[self.id or "id"] = pa.array(ids)
            if self.time or delayed:
                head[self.time or "time"] = pa.array(ms)
            if delayed:
                minutes = self.delay_minutes * np.exp(
                    self.delay_sd * normal(bits[self._delay_draw])
                )
                wait = np.minimum(minutes * 60_000.0, LONGEST_DELAY_DAYS * DAY_MS)
                head[CLICK_TIME] = pa.array(ms + wait.astype(np.int64), mask=~click)
            names = [*head, *(field.name for field in self.fields)]
            piece = pa.RecordBatch.from_arrays([*head.values(), *columns], names=names)
            yield piece.slice(0, min(STRETCH, records - first))

    def _drift(self, walk: F64, number: int, elapsed: float) -> None:
        if not self._drifting or elapsed <= 0.0:
            return
        bits = self._bits(2**33 + number, 2 * len(self._drifting), BUCKETS)
        half = len(self._drifting)
        keep = np.full((half, 1), np.exp(-elapsed / 5.0))
        # now and then (every eight days for a field) a quarter of the values change at once
        sudden = uniform(bits[half:, :1]) < elapsed / 8.0
        struck = uniform(mix(bits[half:])) < 0.25
        stay = np.where(sudden & struck, 0.0, keep)
        walk *= stay
        walk += np.sqrt(1.0 - stay * stay) * normal(bits[:half])


def _calibrate(score: F64, target: F64, bias: float) -> tuple[float, F64]:
    # Newton on the log-odds of the mean: a fixed number of steps, so always the same result
    wanted = float(target.mean())
    goal = np.log(wanted / (1.0 - wanted))
    for _ in range(6):
        chance = sigmoid(score + bias)
        mean = float(chance.mean())
        slope = float((chance * (1.0 - chance)).mean()) / (mean * (1.0 - mean))
        bias += (goal - np.log(mean / (1.0 - mean))) / max(slope, 0.05)
    return float(bias), sigmoid(score + bias)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]
