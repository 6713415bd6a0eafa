from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlinestack import kernel
from onlinestack.kernel import KERNELS

ROOT = Path(__file__).parents[1]
SIDES = [1] if kernel.TWINS else [0, 1]
"""Kernel and twin; in twin mode the text of these kernels is in use nowhere."""
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))

CALLEE = """
    from __future__ import annotations
    from onlinestack.kernel import kernel

    @kernel()
    def add(x, y):
        return x + {0} * y
"""
CALLER = """
    from __future__ import annotations
    from onlinestack.kernel import kernel
    from onlinestack.callee import add

    @kernel()
    def twice(x, y):
        return 2 * add(x, y)
"""
MAIN = """
    import sys
    from onlinestack.caller import twice
    from onlinestack.kernel import compiled_before
    before = compiled_before("caller")
    answer = twice(3, 4)
    stats = getattr(twice, "stats", None)
    print(before, answer, sum(stats.cache_hits.values()) if stats else "twin")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Make a small package of the same name, with the real kernel.py and two modules of its own."""
    folder = tmp_path / "onlinestack"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "kernel.py").write_bytes((ROOT / "onlinestack/kernel.py").read_bytes())
    (folder / "caller.py").write_text(textwrap.dedent(CALLER))
    (folder / "callee.py").write_text(textwrap.dedent(CALLEE.format(1)))
    (tmp_path / "main.py").write_text(textwrap.dedent(MAIN))
    return tmp_path


def start(package: Path, **environment: str) -> subprocess.Popen[str]:
    names = {"ONLINESTACK_CACHE": str(package / "cache"), "ONLINESTACK_TWINS": "0", **environment}
    return subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=package,
        env={**os.environ, **names},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert not err
    return out.strip()


def test_compiled_code_is_kept_until_a_callee_changes(package: Path) -> None:
    assert answer(start(package)) == "False 14 0"
    assert answer(start(package)) == "True 14 1"
    (package / "onlinestack/callee.py").write_text(textwrap.dedent(CALLEE.format(10)))
    assert answer(start(package)) == "False 86 0"
    assert answer(start(package)) == "True 86 1"


def test_two_processes_may_compile_at_once(package: Path) -> None:
    assert [answer(each).split()[1] for each in [start(package), start(package)]] == ["14", "14"]
    assert answer(start(package)) == "True 14 1"


def test_without_a_writable_folder_nothing_is_kept(package: Path) -> None:
    blocked = package / "file"
    blocked.touch()  # a file where the folder should be stops root too
    for _ in range(2):
        assert answer(start(package, ONLINESTACK_CACHE=str(blocked))) == "False 14 0"


def test_twins_mode_compiles_nothing(package: Path) -> None:
    assert answer(start(package, ONLINESTACK_TWINS="1")) == "True 14 twin"
    assert not list((package / "cache").rglob("*"))


@pytest.mark.parametrize("name", ["exp32", "log32", "expm132", "log1p32"])
@given(x=st.floats(width=32))
def test_functions_equal_those_of_the_c_library(name: str, x: float) -> None:
    function = getattr(LIBM, name.removesuffix("32") + "f")
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    expected = np.float32(function(x))
    for side in SIDES:
        result = KERNELS[f"onlinestack.kernel.{name}"][side](np.float32(x))
        np.testing.assert_array_equal(np.float32(result), expected)


@given(x=st.floats(width=32), y=st.floats(width=32))
def test_power_equals_that_of_the_c_library(x: float, y: float) -> None:
    LIBM.powf.restype, LIBM.powf.argtypes = ctypes.c_float, [ctypes.c_float] * 2
    expected = np.float32(LIBM.powf(x, y))
    for side in SIDES:
        result = KERNELS["onlinestack.kernel.pow32"][side](np.float32(x), np.float32(y))
        np.testing.assert_array_equal(np.float32(result), expected)


@kernel.kernel()
def total_at(address: int, count: int) -> float:
    values = kernel.array_at(address, count, np.float64)
    total = 0.0
    for i in range(count):
        kernel.prefetch(values, min(i + 8, count - 1))
        total += values[i]
    return total


@pytest.mark.parametrize("count", [0, 1, 100])
def test_arrays_at_addresses(count: int) -> None:
    values = np.arange(count, dtype=np.float64)
    assert total_at(values.ctypes.data, count) == values.sum()


@kernel.kernel()
def number_at(address: int) -> tuple[float, int]:
    return kernel.strtof(address)


@pytest.mark.parametrize(
    ("text", "value", "length"),
    [(b"1.5", 1.5, 3), (b" -2e3x", -2000.0, 5), (b"nan", np.nan, 3), (b"x", 0.0, 0), (b"", 0.0, 0)],
)
def test_strtof_is_that_of_the_c_library(text: bytes, value: float, length: int) -> None:
    buffer = ctypes.create_string_buffer(text)
    address = ctypes.addressof(buffer)
    number, end = number_at(address)
    np.testing.assert_equal(float(number), value)
    assert end - address == length
