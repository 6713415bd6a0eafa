"""The parser of Vowpal Wabbit text on random bytes: it never crashes, and judges as its wheel does.

``ONLINESTACK_FUZZ_LINES`` is how many lines are drawn; 1000000 with ``NUMBA_BOUNDSCHECK=1`` is the
whole check, which also finds reads outside of the text.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from onlinestack.io.vw_text import VWParser
from onlinestack.vw.driver import run

LINES = int(os.environ.get("ONLINESTACK_FUZZ_LINES", "20000"))
BATCH = 5000
SAMPLED = 400
PIECES = (
    *(bytes([c]) for c in b"  ||::\t\r'0123456789.-+eEabfz^\xef\xbb\xbf\x00\x80\xff"),
    *(b"|f ", b" a:1", b":nan", b"inf", b"1e39", b"0x1p2", b"\xef\xbb\xbf", b"1 2 3 4", b"|f:"),
    *(b"9" * 25, "é日\u00a0".encode(), b" x:y", b"1 'tag|"),
)
ORACLE = """
import sys, vowpalwabbit
vowpalwabbit.Workspace(arg_list=["-d", sys.argv[1], "-p", sys.argv[2], "-t"]).finish()
"""


def line(rng: random.Random) -> bytes:
    """Draw a line: any bytes, or pieces that mean something to the grammar."""
    if rng.random() < 0.2:
        text = rng.randbytes(rng.randrange(40))
    else:
        text = b"".join(rng.choices(PIECES, k=rng.randrange(30)))
    return text.replace(b"\n", b"")


def batches(count: int) -> list[int]:
    return [min(BATCH, count - start) for start in range(0, count, BATCH)]


@pytest.mark.parametrize("labels", ["simple", "multiclass"])
def test_no_line_breaks_the_parser(labels: str) -> None:
    rng = random.Random(labels)
    for names in (False, True):
        parser = VWParser(labels=labels, names=names)  # type: ignore[arg-type]
        for size in batches(LINES // 4):
            lines = [line(rng) for _ in range(size)]
            data = b"\n".join(lines)
            records = parser.parse(data)
            stripped = (x.removeprefix(b"\xef\xbb\xbf") for x in data.split(b"\n"))
            assert records.block.n == sum(x not in (b"", b"\r") for x in stripped)
            assert records.block.stop.max(initial=0) <= len(records.block.value)
            assert (records.block.start <= records.block.stop).all()
            assert not np.isnan(records.block.weight).any()


def summary(text: str) -> str:
    """Return the counts and sums that end a run, with no sign where there is no number."""
    return text[text.index("number of examples") :].replace("-nan", "nan")


def said(data: bytes) -> list[bytes]:
    """Return what was said about malformed lines; the wheel says more about what is learned."""
    about = (b"malformed example", b"Invalid ", b"good float", b"too many tokens", b"importance w")
    return [line for line in data.splitlines() if any(words in line for words in about)]


def test_the_wheel_judges_alike(tmp_path: Path) -> None:
    """Records, tags, sums of labels and weights, and the number of features are the same.

    So is what is said about malformed lines.

    Bytes 0x80 and 0 are left out, which no UTF-8 name begins with or no text has: a namespace that
    begins with the first is the constant's to the wheel, and one with the second none to us.
    """
    pytest.importorskip("vowpalwabbit", reason="the oracle is a dev dependency")
    rng = random.Random(7)
    for turn in range(max(3, min(50, LINES // 20000))):
        file, mine, theirs = (tmp_path / f"{name}{turn}" for name in ("text", "mine", "theirs"))
        lines = (line(rng).translate(None, b"\x80\0") for _ in range(SAMPLED))
        file.write_bytes(b"\n".join(lines) + b"\n")
        error, data = io.StringIO(), io.BytesIO()
        with redirect_stderr(error), redirect_stdout(io.TextIOWrapper(data, write_through=True)):
            run(["-d", str(file), "-p", str(mine), "-t"])
            sys.stdout.flush()
            own = data.getvalue()
        done = subprocess.run(
            [sys.executable, "-c", ORACLE, str(file), str(theirs)], check=True, capture_output=True
        )
        assert mine.read_bytes() == theirs.read_bytes()
        assert summary(error.getvalue()) == summary(done.stderr.decode())
        assert said(own) == said(done.stdout)
