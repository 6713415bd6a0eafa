from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

STREAMS = Path(__file__).parents[2] / "streams"
sys.path.insert(0, str(STREAMS))

import clicklog  # noqa: E402
from clicklog_layout import load_layout  # noqa: E402


def table(
    records: int, batch_size: int = 65536, layout: str = "web", **options: object
) -> pa.Table:
    delayed = bool(options.pop("delayed", False))
    log = clicklog.ClickLog(layout, **options)
    batches = list(log.batches(records, batch_size, delayed=delayed))
    assert all(b.num_rows == batch_size for b in batches[:-1])
    return pa.Table.from_batches(batches).combine_chunks()


def text(path: Path) -> str:
    with pa.input_stream(str(path)) as stream:
        return stream.read().decode()


def test_the_sample_is_what_the_generator_makes() -> None:
    sample = pq.read_table(STREAMS / "clicks.parquet")
    assert sample.num_rows == 25_000
    again = table(9000, seed=0, per_day=5000, click_rate=0.1)
    assert again.equals(sample.slice(0, 9000))


def test_the_sample_is_the_same_in_both_formats_and_small() -> None:
    sample = pq.read_table(STREAMS / "clicks.parquet")
    rows = list(csv.DictReader(io.StringIO(text(STREAMS / "clicks.csv.zst"))))
    assert list(rows[0]) == sample.schema.names
    for name in sample.schema.names:
        written = ["" if v is None else str(v) for v in sample[name].to_pylist()]
        if sample.schema.field(name).type == pa.float64():
            assert [float(r[name]) for r in rows] == sample[name].to_pylist()
        else:
            assert [r[name] for r in rows] == written
    size = sum((STREAMS / f"clicks.{s}").stat().st_size for s in ("parquet", "csv.zst"))
    assert size <= 2_000_000


@pytest.mark.parametrize("layout", ["web", "criteo"])
@pytest.mark.parametrize("batch_size", [1, 1000, 4096, 65536])
def test_batches_do_not_matter(layout: str, batch_size: int) -> None:
    records = 300 if batch_size == 1 else 10_000
    whole = table(10_000, layout=layout, seed=3)
    assert table(records, batch_size, layout, seed=3).equals(whole.slice(0, records))


def test_the_seed_matters() -> None:
    assert not table(1000, seed=0).equals(table(1000, seed=1))


@pytest.mark.parametrize(("layout", "rate"), [("web", 0.06), ("web", 0.4), ("criteo", 0.02)])
def test_click_rate_over_whole_days(layout: str, rate: float) -> None:
    label = 0
    clicks = table(70_000, layout=layout, click_rate=rate, per_day=10_000)[label].to_numpy()
    error = 4 * np.sqrt(rate * (1 - rate) / len(clicks))
    assert abs(clicks.mean() - rate) < error + 0.01 * rate


def test_traffic_and_clicks_follow_the_hour() -> None:
    t = table(70_000, per_day=10_000, click_rate=0.3)
    hour = (t["time"].to_numpy() // 3_600_000) % 24
    records = np.bincount(hour, minlength=24)
    rate = np.bincount(hour, t["click"].to_numpy()) / records
    assert records.max() > 3 * records.min()
    assert rate.max() > 1.3 * rate.min()
    assert (np.diff(t["time"].to_numpy()) >= 0).all()
    assert (np.diff(t["id"].to_numpy()) > 0).all()


def test_new_campaigns_are_born_and_old_ones_die() -> None:
    t = table(18_000, per_day=3_000)
    first, last = t.slice(0, 3000)["campaign"], t.slice(15_000)["campaign"]
    new = pc.invert(pc.is_in(last, value_set=first.combine_chunks()))
    assert 0.3 < pc.mean(pc.cast(new, pa.float64())).as_py() < 0.99


def test_criteo_layout_has_its_shape() -> None:
    t = table(20_000, layout="criteo")
    integers, categories = [f"I{i}" for i in range(1, 14)], [f"C{i}" for i in range(1, 27)]
    assert t.schema.names == ["label", *integers, *categories]
    assert all(t.schema.field(n).type == pa.int32() for n in integers)
    for name in categories:
        known = t[name].drop_null()
        assert pc.all(pc.match_substring_regex(known, "^[0-9a-f]{8}$")).as_py()
    assert pc.count_distinct(t["C9"]).as_py() <= 3 + 1
    assert pc.count_distinct(t["C3"]).as_py() > 8000
    assert t["C22"].null_count > 15_000
    assert pc.max(t["I5"]).as_py() > 100_000
    assert pc.equal(pc.is_null(t["C3"]), pc.is_null(t["C12"])).combine_chunks().false_count == 0


def test_delayed_clicks_join_to_the_labels(tmp_path: Path) -> None:
    common = ["--records", "30000", "--per-day", "9000", "--seed", "5", "--click-rate", "0.1"]
    assert clicklog.main([*common, "--out", str(tmp_path / "log.parquet")]) == 0
    late = [str(tmp_path / "late.parquet"), str(tmp_path / "late.csv.gz")]
    assert clicklog.main([*common, "--batch-size", "5000", "--delayed", "--out", *late]) == 0
    log = pq.read_table(tmp_path / "log.parquet")
    shown = pq.read_table(tmp_path / "late.impressions.parquet")
    clicks = pq.read_table(tmp_path / "late.clicks.parquet")
    assert shown.equals(log.drop_columns("click"))
    assert clicks.schema.names == ["id", "time"]
    clicked = pc.is_in(shown["id"], value_set=clicks["id"].combine_chunks())
    assert pc.cast(clicked, pa.int8()).equals(log["click"])
    assert pc.count_distinct(clicks["id"]).as_py() == clicks.num_rows
    assert (np.diff(clicks["time"].to_numpy()) >= 0).all()
    served = dict(zip(shown["id"].to_pylist(), shown["time"].to_pylist(), strict=True))
    delay = [
        (time - served[id]) / 60_000
        for id, time in zip(clicks["id"].to_pylist(), clicks["time"].to_pylist(), strict=True)
    ]
    assert min(delay) > 0
    assert 8 < np.median(delay) < 18
    assert max(delay) > 300
    assert text(tmp_path / "late.clicks.csv.gz").count("\n") == clicks.num_rows + 1


def test_vowpal_wabbit_text_says_what_the_table_says(tmp_path: Path) -> None:
    path = tmp_path / "log.vw.gz"
    arguments = ["--records", "3000", "--layout", "criteo", "--out", str(path)]
    assert clicklog.main([*arguments, str(tmp_path / "log.parquet")]) == 0
    rows = pq.read_table(tmp_path / "log.parquet").to_pylist()
    lines = text(path).splitlines()
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        label = "1" if row.pop("label") else "-1"
        tokens = [f"{name}={value}" for name, value in row.items() if value is not None]
        assert line == " ".join([label, "|f", *tokens])


def test_web_log_as_vowpal_wabbit_text_has_no_separators_in_values(tmp_path: Path) -> None:
    path = tmp_path / "log.vw"
    assert clicklog.main(["--records", "2000", "--out", str(path)]) == 0
    for line in path.read_text().splitlines():
        assert line.count("|") == 1
        assert ":" not in line
        assert "id=" not in line.replace("grid=", "")


def test_memory_does_not_grow_with_records() -> None:
    def peak(records: int) -> int:
        log = clicklog.ClickLog("web")
        tracemalloc.start()
        for _ in log.batches(records, 4096):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(4096)
    small, arrow_small = peak(30_000), pa.total_allocated_bytes()
    large, arrow_large = peak(150_000), pa.total_allocated_bytes()
    assert large < small + 500_000
    assert arrow_large <= arrow_small + 1_000_000


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    command = [sys.executable, str(STREAMS / "clicklog.py"), "--out", str(path)]
    done = subprocess.run(
        [*command, "--records", "100"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["records"] == 100
    assert path.read_text().count("\n") == 101
    assert not any(line.startswith('"') for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.txt"], "ends in none of"),
        (["--out", "x.csv", "--click-rate", "2"], "between 0 and 1"),
        (["--out", "x.csv", "--layout", "nothing.toml"], "nothing.toml"),
        (["--out", "x.csv", "--per-day", "0"], "above 0"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clicklog.main(["--records", "10", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_layouts_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[log]\nlabel = "y"\n[[field]]\nname = "a"\nzip = 1.0\n')
    with pytest.raises(ValueError, match="has the key 'zip'"):
        load_layout(path)
    path.write_text('[log]\nlabel = "y"\n[[field]]\nname = "a"\nnear = "b"\n')
    with pytest.raises(ValueError, match="near names no field above it"):
        load_layout(path)


def test_trees_and_pairs_have_something_to_find() -> None:
    # the best score from single fields cannot know the effect of a pair of fields
    t = table(80_000, click_rate=0.3, per_day=20_000)
    y = t["click"].to_numpy().astype(float)
    codes = [
        t[n].combine_chunks().dictionary_encode().indices.to_numpy() for n in ("device", "format")
    ]
    pair = codes[0] * 10 + codes[1]
    logit = np.log(y.mean() / (1 - y.mean()))
    for code in codes:
        n = np.bincount(code)
        rate = np.bincount(code, y) / n
        logit = logit + (np.log(rate / (1 - rate)) - np.log(y.mean() / (1 - y.mean())))[code]
    additive = 1 / (1 + np.exp(-logit))
    seen = np.bincount(pair)
    gap = np.bincount(pair, y - additive) / np.sqrt(np.maximum(seen, 1) * 0.2)
    assert (np.abs(gap) > 4).sum() >= 5
