"""Sinks: what they write, where they stand, and that a resumed run leaves the same files."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack.io import lines as text_lines
from onlinestack.io import parquet_sink
from onlinestack.io.lines import csv_lines, json_lines
from onlinestack.io.sink import SINKS, RejectSink, open_sink

ROOT = Path(__file__).parents[2]
FLOATS = st.floats(width=32, allow_infinity=False)


def block(start, stop):
    """Return the columns of some records, the same however they are cut."""
    row = np.arange(start, stop)
    chance = np.random.default_rng(7).random(100_000, np.float32)[row]
    label = np.where(row % 5 == 4, np.nan, row % 2).astype(np.float32)
    names = [None if r % 11 == 3 else f"a,{r}" if r % 7 == 0 else f"a{r}" for r in row.tolist()]
    return row, pa.array(names, pa.string()), label, chance


def content(path):
    """Return all files a sink left, by name; Parquet as one table without regard to parts."""
    if path.suffix != ".parquet":
        return {p.name: p.read_bytes() for p in path.parent.iterdir()}
    numbers = [path] + [path.with_name(f"{path.stem}-{k}.parquet") for k in range(1, 100)]
    parts = [p for p in numbers if p.exists()]
    assert sorted(parts) == sorted(path.parent.iterdir())
    table = pa.concat_tables([pq.read_table(p) for p in parts])
    return {path.name: table.to_pylist()}


def kill(sink, path):
    """Leave the files as a killed process does."""
    if path.suffix == ".parquet":
        sink._give_up()
        path.with_name("preds-3.parquet.tmp").write_bytes(b"PAR1 and the rest never came")
    else:
        sink._tail.close()


def written(folder, suffix, cuts):
    folder.mkdir()
    path = folder / f"preds{suffix}"
    with open_sink(path) as sink:
        for start, stop in zip(cuts, cuts[1:], strict=False):
            sink.write(*block(start, stop))
    return path


# ---------------------------------------------------------------------------------------- lines


def test_csv_text(tmp_path):
    label = np.array([0, 1, np.nan, 2.5, -1], np.float32)
    p = np.array([0.1, 1, 1e-6, 3.4e38, -0.0], np.float32)
    names = pa.array(["a", 'say "b"', None, "c\nd", "e,é"])
    assert bytes(csv_lines(np.arange(5), names, label, p)).decode() == (
        '0,a,0,0.1\n1,"say ""b""",1,1\n2,,,0.000001\n3,"c\nd",2.5,3.4e+38\n4,"e,é",-1,0\n'
    )
    assert bytes(csv_lines(np.arange(2), None, label[:2], p[:2])) == b"0,0,0.1\n1,1,1\n"
    assert bytes(csv_lines(np.arange(0), None, label[:0], p[:0])) == b""


def test_json_text():
    label, p = np.array([1, np.nan, 0], np.float32), np.array([0.25, np.nan, np.inf], np.float32)
    names = pa.array(['"a"\\\n\x00é', None, "b"])
    lines = bytes(json_lines(np.arange(3), names, label, p)).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"row": 0, "id": '"a"\\\n\x00é', "label": 1, "p": 0.25},
        {"row": 1, "id": None, "label": None, "p": None},
        {"row": 2, "id": "b", "label": 0, "p": None},
    ]
    whole = json_lines(np.arange(2), pa.array([7, None]), label[:2], p[:2])
    assert bytes(whole).splitlines()[0] == b'{"row":0,"id":7,"label":1,"p":0.25}'
    assert json.loads(bytes(json_lines(np.arange(1), None, label[:1], p[:1]))).keys() == {
        *["row", "label", "p"]
    }


@pytest.mark.parametrize("suffix", SINKS)
@pytest.mark.parametrize("n", [3, 40])
def test_columns_of_other_names_and_of_texts(tmp_path, suffix, n):
    path = tmp_path / f"preds{suffix}"
    label = pa.array(["a", None, 'b,"c'] * n)
    best = pa.array([None, "b", "b\nd"] * n, pa.large_string())
    with open_sink(path, columns=("label", "prediction", "p")) as sink:
        sink.write(np.arange(3 * n), None, label, best, np.array([0, 0.5, 0.25] * n, np.float32))
    if suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
        for row in rows:
            row["row"], row["p"] = int(row["row"]), float(row["p"])
            row["label"], row["prediction"] = row["label"] or None, row["prediction"] or None
    wanted = zip(range(3 * n), label.to_pylist(), best.to_pylist(), [0, 0.5, 0.25] * n, strict=True)
    names = ("row", "label", "prediction", "p")
    assert rows == [dict(zip(names, row, strict=True)) for row in wanted]
    empty = tmp_path / f"empty{suffix}"
    open_sink(empty, columns=("label", "prediction")).close()
    if suffix == ".csv":
        assert empty.read_text() == "row,label,prediction\n"
    if suffix == ".parquet":
        assert pq.read_schema(empty).names == ["row", "label", "prediction"]


@given(st.lists(st.tuples(st.text() | st.none(), FLOATS, FLOATS), max_size=20), st.booleans())
def test_few_records_are_written_like_many(records, whole):
    row = np.arange(len(records)) * 1000
    names, label, p = ([r[k] for r in records] for k in range(3))
    ids = pa.array(row * 7, mask=row == 3000) if whole else pa.array(names, pa.string())
    columns = np.array(label, np.float32), np.array(p, np.float32)
    for lines in (csv_lines, json_lines):
        for column in (ids, None):
            texts = []
            for few in (0, 100):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(text_lines, "_FEW", few)
                    texts.append(bytes(lines(row, column, *columns)))
            assert texts[0] == texts[1]


@given(st.lists(st.tuples(st.text() | st.none(), FLOATS, FLOATS), min_size=1, max_size=20))
def test_any_record_comes_back_from_text(records):
    names, label, p = zip(*records, strict=True)
    columns = np.array(label, np.float32), np.array(p, np.float32)
    ids = pa.array(names, pa.string())
    rows = np.arange(len(names))
    lines = bytes(csv_lines(rows, ids, *columns)).decode()
    back = list(csv.reader(io.StringIO(lines, newline="")))
    wanted = [(str(i), name or "") for i, name in enumerate(names)]
    assert [(r[0], r[1]) for r in back] == wanted
    floats = np.array([[float(v or "nan") for v in r[2:]] for r in back], np.float32)
    assert np.array_equal(floats, np.column_stack(columns), equal_nan=True)
    objects = [
        json.loads(line) for line in bytes(json_lines(rows, ids, *columns)).split(b"\n")[:-1]
    ]
    assert [(o["row"], o["id"]) for o in objects] == [(i, n or None) for i, n in enumerate(names)]
    floats = np.array([[o["label"], o["p"]] for o in objects], float).astype(np.float32)
    assert np.array_equal(floats, np.column_stack(columns), equal_nan=True)


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([b"a", b"\xff", None]), ["a", "\ufffd", ""]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([7.0, 0.5, None]), ["7", "0.5", ""]),
        (pa.array([7, 8, None], pa.uint64()), ["7", "8", ""]),
        (pa.chunked_array([["p"], ["q", "r"]]), ["p", "q", "r"]),
    ],
)
def test_ids_of_every_type(tmp_path, ids, texts):
    number = np.zeros(3, np.float32)
    for suffix in SINKS:
        with open_sink(tmp_path / f"a{suffix}") as sink:
            sink.write(np.arange(3), ids, number, number)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == ["row,id,label,p", *(f"{i},{text},0,0" for i, text in enumerate(texts))]
    objects = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    kept = pq.read_table(tmp_path / "a.parquet")["id"].to_pylist()
    for values in ([o["id"] for o in objects], kept):
        assert [str("" if v is None else v) for v in values] == texts


# -------------------------------------------------------------------------------------- protocol


@pytest.mark.parametrize("suffix", SINKS)
def test_blocks_do_not_matter(tmp_path, suffix):
    whole = content(written(tmp_path / "a", suffix, [0, 500]))
    assert content(written(tmp_path / "b", suffix, [*range(0, 300), 300, 301, 400, 500])) == whole
    assert len(next(iter(whole.values()))) > 100


@pytest.mark.parametrize("suffix", SINKS)
def test_resume_takes_away_what_came_later(tmp_path, suffix):
    whole = content(written(tmp_path / "a", suffix, [0, 200, 400]))
    (tmp_path / "b").mkdir()
    path = tmp_path / "b" / f"preds{suffix}"
    sink = open_sink(path)
    sink.write(*block(0, 100))
    assert sink.position() == sink.position()
    sink.write(*block(100, 150))
    place = json.loads(json.dumps(sink.position()))
    sink.write(*block(150, 300))
    sink.position()  # its snapshot was never written
    sink.write(*block(300, 333))
    sink.flush()
    kill(sink, path)
    for _ in range(2):  # resumed twice from the same snapshot
        with open_sink(path, resume=place) as sink:
            sink.write(*block(150, 400))
        assert content(path) == whole


@pytest.mark.parametrize("suffix", SINKS)
def test_resume_before_the_first_record_and_after_the_last(tmp_path, suffix):
    (tmp_path / "b").mkdir()
    path = tmp_path / "b" / f"preds{suffix}"
    sink = open_sink(path)
    first = sink.position()
    sink.write(*block(0, 10))
    last = sink.position()
    sink.close()
    sink.close()
    whole = content(path)
    with open_sink(path, resume=last):
        pass
    assert content(path) == whole
    with open_sink(path, resume=first) as sink:
        sink.write(*block(0, 10))
    assert content(path) == whole


@pytest.mark.parametrize("suffix", SINKS)
def test_a_position_of_another_file_is_a_new_beginning(tmp_path, suffix):
    path = written(tmp_path / "a", suffix, [0, 10])
    with open_sink(path) as sink:
        sink.write(*block(0, 10))
        place = sink.position()
    other = tmp_path / f"other{suffix}"
    with open_sink(other, resume=place) as sink:
        sink.write(*block(10, 20))
    with open_sink(tmp_path / f"fresh{suffix}") as sink:
        sink.write(*block(10, 20))
    if suffix != ".parquet":
        assert other.read_bytes() == (tmp_path / f"fresh{suffix}").read_bytes()
    assert path.exists()


@pytest.mark.parametrize("suffix", SINKS)
def test_resume_without_the_file_is_one_sentence(tmp_path, suffix):
    path = written(tmp_path / "a", suffix, [0, 10])
    with open_sink(path) as sink:
        sink.write(*block(0, 10))
        place = sink.position()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="gone; put it back") as error:
        open_sink(path, resume=place)
    assert str(path) in str(error.value)
    if suffix != ".parquet":
        path.write_bytes(b"row")
        with pytest.raises(OSError, match="has 3 bytes of the"):
            open_sink(path, resume=place)
        assert path.read_bytes() == b"row"


@pytest.mark.parametrize("suffix", SINKS)
def test_no_records(tmp_path, suffix):
    path = written(tmp_path / "a", suffix, [0])
    if suffix == ".csv":
        assert path.read_text() == "row,label,p\n"
    elif suffix == ".jsonl":
        assert path.read_text() == ""
    else:
        assert pq.read_schema(path).names == ["row", "label", "p"]


@pytest.mark.parametrize("suffix", SINKS)
def test_ids_that_come_and_go_keep_the_columns(tmp_path, suffix):
    row, ids, label, p = block(0, 4)
    with open_sink(tmp_path / f"a{suffix}") as sink:
        sink.write(row[:0], None, label[:0], p[:0])
        sink.write(row[:2], ids[:2], label[:2], p[:2])
        sink.write(row[2:], None, label[2:], p[2:])
    with open_sink(tmp_path / f"b{suffix}") as sink:
        sink.write(row[:2], None, label[:2], p[:2])
        sink.write(row[2:], ids[2:], label[2:], p[2:])
    if suffix == ".csv":
        assert (tmp_path / "a.csv").read_text().splitlines()[3].startswith("2,,0,")
        assert (tmp_path / "b.csv").read_text().splitlines()[3].startswith("2,0,")
    elif suffix == ".parquet":
        assert pq.read_table(tmp_path / "a.parquet")["id"].to_pylist()[2:] == [None, None]
        assert "id" not in pq.read_schema(tmp_path / "b.parquet").names


# --------------------------------------------------------------------------------------- parquet


def test_parquet_types_and_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_sink, "_GROUP", 1000)
    path = written(tmp_path / "a", ".parquet", [*range(0, 700), 700, 2500, 2700])
    schema = pq.read_schema(path)
    assert schema.names == ["row", "id", "label", "p"]
    assert schema.types == [pa.int64(), pa.string(), pa.float32(), pa.float32()]
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(g).num_rows for g in range(groups.num_row_groups)] == [1000, 1000, 700]
    assert pq.read_table(path)["row"].to_pylist() == list(range(2700))


def test_parquet_parts_appear_whole_and_numbered(tmp_path):
    sink = open_sink(tmp_path / "p.parquet")
    sink.write(*block(0, 10))
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet.tmp"]
    assert sink.position() == {"path": str(tmp_path / "p.parquet"), "parts": 1}
    assert sink.position()["parts"] == 1  # nothing new, no new part
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]
    sink.write(*block(10, 20))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p-1.parquet", "p.parquet"]
    assert pq.read_table(tmp_path / "p-1.parquet")["row"].to_pylist() == list(range(10, 20))


def test_parquet_starts_anew_over_its_own_parts_but_not_over_others(tmp_path):
    sink = open_sink(tmp_path / "p.parquet")
    for start in (0, 10, 20):
        sink.write(*block(start, start + 10))
        sink.position()
    sink.close()
    foreign = tmp_path / "p-3.parquet"
    pq.write_table(pa.table({"mine": [1]}), foreign)
    with open_sink(tmp_path / "p.parquet") as sink:
        sink.write(*block(0, 5))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p-3.parquet", "p.parquet"]
    place = {"path": str(tmp_path / "p.parquet"), "parts": 1}
    foreign.rename(tmp_path / "p-1.parquet")
    with pytest.raises(FileExistsError, match="in the way"):
        open_sink(tmp_path / "p.parquet", resume=place)
    assert pq.read_schema(tmp_path / "p-1.parquet").names == ["mine"]


# ------------------------------------------------------------------------- places and their errors


@pytest.mark.parametrize(
    ("name", "hint"), [("a.txt", "must end in"), ("a", "must end in"), ("a.cvs", "mean 'a.csv'")]
)
def test_unknown_suffix(tmp_path, name, hint):
    with pytest.raises(ValueError, match=hint) as error:
        open_sink(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("suffix", SINKS)
def test_places_that_cannot_be_written(tmp_path, suffix):
    (tmp_path / f"folder{suffix}").mkdir()
    for name in (f"folder{suffix}", f"no/where{suffix}"):
        with pytest.raises(OSError, match="predictions could not be written to") as error:
            open_sink(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "Errno" not in str(error.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_device_is_one_sentence():
    sink = open_sink("/dev/full")
    with pytest.raises(OSError, match="^predictions could not be written to '/dev/full': no space"):
        sink.write(*block(0, 10))
    sink.close()


@pytest.mark.parametrize("suffix", SINKS)
def test_a_full_disk_keeps_what_was_finished(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    script = f"""
        import resource, signal, warnings, numpy as np
        from onlinestack.io.sink import open_sink
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def rows(n):
            chance = np.random.default_rng(1).random(n, np.float32)
            return np.arange(n), None, chance, chance
        with open_sink({str(path)!r}) as sink:
            sink.write(*rows(10))
            sink.position()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                sink.write(*rows(1_000_000))
                sink.position()
            except OSError as error:
                print(error.errno, error)
    """
    done = run(script, capture_output=True, text=True)
    assert done.stderr == ""
    number, text = done.stdout.strip().split(" ", 1)
    assert int(number) == errno.EFBIG
    assert text == f"predictions could not be written to '{path}': file too large"
    if suffix == ".parquet":
        assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]
        assert len(pq.read_table(path)) == 10


def run(script, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=environment, timeout=60, **options)


STDOUT = """
    import sys, numpy as np
    from onlinestack.io.sink import open_sink
    one = np.ones(1, np.float32)
    with open_sink("-", resume={"path": "-", "size": 500, "id": True}) as sink:
        try:
            for row in range(10 ** 5):
                sink.write(np.array([row]), None, one, one)
                sys.stdin.readline()
        except BrokenPipeError:
            sys.stderr.write("closed")
            sys.stderr.flush()
            import os; os._exit(0)
"""


def test_standard_output_is_answered_record_by_record_and_may_be_closed():
    command = [sys.executable, "-c", textwrap.dedent(STDOUT)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"row,label,p\n"
        for row in range(3):
            assert process.stdout.readline() == b"%d,1,1\n" % row
            process.stdin.write(b"next\n")
            process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"next\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == b"closed"


def test_standard_output_of_an_embedding_program(monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    with open_sink("-") as sink:
        sink.write(np.arange(1), pa.array(["é"]), np.ones(1, np.float32), np.ones(1, np.float32))
    assert output.getvalue() == "row,id,label,p\n0,é,1,1\n"


# --------------------------------------------------------------------------------------- rejects


@dataclass(frozen=True)
class Reject:
    """Looks like the rejects of sources."""

    row: int
    source: str = "log.csv"
    position: int = 1
    reason: str = "label 'é' is neither"
    text: str = '"a"\n\udcff'


def test_rejects_in_order_and_resumed(tmp_path):
    path = tmp_path / "rejects.jsonl"
    with RejectSink(path) as sink:
        sink.write([Reject(3), Reject(5)])
        place = sink.position()
        sink.write([Reject(7)])
        sink.write([])
    with RejectSink(path, resume=place) as sink:
        sink.write([Reject(6)])
    objects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [o["row"] for o in objects] == [3, 5, 6]
    assert objects[0] == {
        **{"row": 3, "source": "log.csv", "position": 1, "reason": "label 'é' is neither"},
        "text": '"a"\n?',
    }
    assert list(objects[0]) == ["row", "source", "position", "reason", "text"]
    with pytest.raises(OSError, match="rejected records could not be written to"):
        RejectSink(tmp_path)


def test_probabilities_print_shortest():
    p = np.random.default_rng(0).random(1000, np.float32)
    lines = bytes(csv_lines(np.arange(1000), None, p, p)).decode().split()
    for number, line in zip(p, lines, strict=True):
        text = line.split(",")[2]
        assert np.float32(text) == number
        digits = np.format_float_positional(number, unique=True, trim="-")
        assert math.isclose(float(text), float(digits), rel_tol=1e-12)
