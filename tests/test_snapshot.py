"""Snapshots: exact round trips, equal bytes, whole after any crash, one sentence on any damage."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlinestack import snapshot
from onlinestack.atomic import replacing
from onlinestack.snapshot import SnapshotError, load, save

ROOT = Path(__file__).parents[1]
DTYPES = [
    *[np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16],
    *[np.uint32, np.int32, np.float32, np.uint64, np.int64, np.float64],
]


def equal(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def small(tmp_path):
    """Return a small snapshot and what it holds."""
    arrays = {"weights": np.arange(5, dtype=np.float32), "none": np.empty((0, 3), np.uint8)}
    meta = {"seen": 3, "rate": 0.1}
    save(tmp_path / "small", arrays, meta)
    return tmp_path / "small", arrays, meta


# -------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0), (2, 3), (2, 1, 3)])
def test_dtypes_and_shapes(tmp_path, dtype, shape):
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    save(tmp_path / "a", {"x": array}, None)
    arrays, meta = load(tmp_path / "a")
    assert equal(arrays["x"], array) and meta is None
    assert arrays["x"].flags.writeable and arrays["x"].flags.c_contiguous


def test_strided_and_foreign_byte_order(tmp_path):
    table = np.arange(12, dtype=np.int32).reshape(3, 4)
    big = table.astype(">i4")
    save(tmp_path / "a", {"t": table.T, "s": table[:, 1], "b": big, "r": table[::-1]}, {})
    arrays, _ = load(tmp_path / "a")
    assert equal(arrays["t"], np.ascontiguousarray(table.T)) and equal(arrays["b"], table)
    assert arrays["s"].tolist() == [1, 5, 9] and equal(arrays["r"], table[::-1].copy())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner)
    ),
    max_leaves=20,
)


@given(JSON, hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0)), st.text())
def test_any_object_and_floats_come_back_exactly(tmp_path_factory, meta, array, name):
    path = tmp_path_factory.getbasetemp() / "any"
    if name == "__metadata__":
        return
    save(path, {name: array}, meta)
    arrays, back = load(path)
    assert json.dumps(back, sort_keys=True) == json.dumps(meta, sort_keys=True)
    assert list(arrays) == [name] and equal(arrays[name], array)


def test_numpy_scalars_and_tuples_are_taken(tmp_path):
    given_meta = {"a": np.float32(0.1), "b": np.int64(3), "c": (1, np.bool_(True)), "d": -0.0}
    save(tmp_path / "a", {}, given_meta)
    arrays, meta = load(tmp_path / "a")
    assert arrays == {} and meta == {"a": float(np.float32(0.1)), "b": 3, "c": [1, True], "d": 0.0}
    assert math.copysign(1, meta["d"]) == -1


@pytest.mark.parametrize(
    ("arrays", "meta"),
    [
        ({"x": np.array(["text"])}, {}),
        ({"x": np.array([object()])}, {}),
        ({"x": np.array([1j])}, {}),
        ({"__metadata__": np.zeros(1)}, {}),
        ({}, {1: 2}),
        ({}, {"a": {"b": [object()]}}),
        ({}, {"$float": "1"}),
        ({}, {"when": np.datetime64("2020-01-01")}),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(tmp_path, arrays, meta):
    with pytest.raises(TypeError, match="cannot be kept in a snapshot"):
        save(tmp_path / "a", arrays, meta)
    assert list(tmp_path.iterdir()) == []


def test_equal_content_gives_equal_bytes(tmp_path):
    x, y = np.arange(3.0), np.arange(4, dtype=np.uint8)
    save(tmp_path / "a", {"x": x, "y": y}, {"p": 1, "q": [math.nan]})
    save(tmp_path / "b", {"y": y, "x": x[::-1][::-1]}, {"q": [math.nan], "p": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_safetensors_package_reads_it(small):
    safetensors = pytest.importorskip("safetensors.numpy")
    path, arrays, _ = small
    back = safetensors.load_file(path)
    assert sorted(back) == sorted(arrays) and all(equal(back[k], arrays[k]) for k in arrays)


# ------------------------------------------------------------------------------------- damage


def sentence(path):
    with pytest.raises(SnapshotError) as error:
        load(path)
    text = str(error.value)
    assert str(path) in text and "\n" not in text and isinstance(error.value, ValueError)
    return text


def test_missing_folder_empty_and_special(tmp_path, small):
    assert "there is no snapshot" in sentence(tmp_path / "nowhere")
    assert "there is no snapshot" in sentence(tmp_path / "no" / "where")
    assert "is a folder" in sentence(tmp_path)
    (tmp_path / "empty").touch()
    assert "is empty" in sentence(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    assert "no ordinary file" in sentence(tmp_path / "pipe")


def test_cut_short_anywhere(small):
    path, _, _ = small
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        sentence(path)
    path.write_bytes(whole + b"\0")
    assert "damaged" in sentence(path)


def test_any_flipped_bit_is_noticed(small):
    path, _, _ = small
    whole = path.read_bytes()
    chance = random.Random(2)
    for place in range(len(whole)):
        bent = bytearray(whole)
        bent[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bent)
        sentence(path)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_do_harm(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    sentence(path)
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    sentence(path)


@pytest.mark.parametrize(
    "header",
    [
        *[
            '{"onlinestack":1}',
            '"onlinestack"',
            "[" * 5000 + '"onlinestack"',
            '{"__metadata__":{}}',
        ],
        *['{"__metadata__":{"onlinestack":"{}"}}', '{"__metadata__":{"onlinestack":3}}'],
    ],
)
def test_headers_that_only_look_like_ours(tmp_path, header):
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    sentence(tmp_path / "a")


def test_foreign_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"x": np.zeros(3)}, tmp_path / "other", {"made": "elsewhere"})
    assert "not a snapshot of onlinestack" in sentence(tmp_path / "other")
    (tmp_path / "text").write_text("a,b,c\n1,2,3\n" * 10)
    assert "not a snapshot of onlinestack" in sentence(tmp_path / "text")


def test_newer_format(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "FORMAT", 2)
    save(tmp_path / "a", {}, {})
    monkeypatch.undo()
    assert "format 2" in sentence(tmp_path / "a") and "newer" in sentence(tmp_path / "a")


# -------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no/where/model", "does not exist"), ("folder", "is a folder"), ("pipe", "ordinary file")],
)
def test_places_that_cannot_be_written(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=reason) as error:
        save(tmp_path / name, {}, {})
    assert str(error.value).startswith(f"the snapshot could not be saved to '{tmp_path / name}'")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_links_and_modes_are_kept(tmp_path):
    (tmp_path / "there").mkdir()
    save(tmp_path / "there" / "model", {}, 1)
    (tmp_path / "there" / "model").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "model")
    save(tmp_path / "link", {}, 2)
    assert (tmp_path / "link").is_symlink() and load(tmp_path / "there" / "model")[1] == 2
    assert stat.S_IMODE((tmp_path / "there" / "model").stat().st_mode) == 0o600


def test_two_writers_never_mix(small):
    path, _, meta = small
    with replacing(str(path)) as file:
        file.write(b"half")
        with pytest.raises(OSError, match="another process is writing it; wait"):
            save(path, {}, {"mine": 1})
        assert load(path)[1] == meta
        file.truncate(0)
        file.seek(0)
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_save_leaves_the_old_file_alone(small, monkeypatch, kind):
    path, arrays, meta = small

    def stop(*_):
        raise kind

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(kind):
        save(path, arrays, {"new": 1})
    assert load(path)[1] == meta and [p.name for p in path.parent.iterdir()] == ["small"]


def test_a_full_disk_is_one_sentence(small):
    path, _, meta = small
    script = f"""
        import resource, signal, sys, numpy as np
        from onlinestack.snapshot import save
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save({str(path)!r}, {{"w": np.zeros(1_000_000)}}, {{}})
        except OSError as error:
            print(error.errno, error)
    """
    done = run(script, capture_output=True, text=True, check=True)
    number, text = done.stdout.strip().split(" ", 1)
    assert int(number) == errno.EFBIG
    assert text == f"the snapshot could not be saved to '{path}': file too large"
    assert load(path)[1] == meta and [p.name for p in path.parent.iterdir()] == ["small"]


def run(script, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=environment, timeout=60, **options)


def test_kill_9_leaves_the_old_or_the_new_file(tmp_path):
    path = tmp_path / "model"
    script = f"""
        import itertools, numpy as np
        from onlinestack.snapshot import load, save
        try:
            first = load({str(path)!r})[1]["turn"] + 1
        except ValueError:
            first = 0
        for turn in itertools.count(first):
            save({str(path)!r}, {{"w": np.full(200_000, turn)}}, {{"turn": turn}})
            print(turn, flush=True)
    """
    chance = random.Random(1)
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    turn = -1
    for _ in range(20):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            said = process.stdout.readline()  # from here on it does nothing but save
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            said = (said + process.stdout.read()).split()
        arrays, meta = load(path)
        assert int(said[-1]) <= meta["turn"] <= int(said[-1]) + 1 and meta["turn"] > turn
        turn = meta["turn"]
        assert arrays["w"].shape == (200_000,) and (arrays["w"] == turn).all()
        assert {p.name for p in tmp_path.iterdir()} <= {"model", "model.tmp"}


def test_large_arrays_are_saved_without_copies(tmp_path):
    script = f"""
        import numpy as np, resource
        from onlinestack.snapshot import save
        large = np.ones(8 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        save({str(tmp_path / "a")!r}, {{"w": large}}, {{}})
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = int(run(script, capture_output=True, text=True, check=True).stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 16 << 20
