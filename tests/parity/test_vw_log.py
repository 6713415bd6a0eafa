"""What `onlinestack vw` says about single records against what Vowpal Wabbit's wheel says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vowpalwabbit", reason="the oracle is a dev dependency")

THEIRS = "import sys, vowpalwabbit; vowpalwabbit.Workspace(arg_list=sys.argv[1:]).finish()"
OURS = "import sys; from onlinestack.vw.driver import run; run(sys.argv[1:])"
MALFORMED = rb"""1 |f a

1 |f a:1:2 b
1x |f a
x |f a
1 x 'tag|f a
1 nan y |f a
1 2 3 4 |f a
nan |f a
garbage without a bar
1 |: a
1 |f:x a
1 |f:nan a
1 |f:nan
1 |f a |g:2
1 |f:0.5x a b
1 |g a:nan |f b:nan """ + (
    b"\xff b\n1 |f a:1,5\r\n\xef\xbb\xbf1 |f c:2:\n1 |f a\\b :1 :x c:1e\n1 -1 |f a\n1 |:\n1 | a:"
)
CLASSES = b"1 |f a\n7 |f b\n2 x |f a\n3 |f a\n0 |f b\n5 -1 |f a:1:1\n|f a\n4294967295 |f\n"


TURNS = 9


@pytest.mark.parametrize(
    "text, options",
    [
        (MALFORMED, []),
        (MALFORMED, ["-t"]),
        (MALFORMED, ["--quiet"]),
        (MALFORMED, ["--passes", "2", "-c", "-k"]),
        (CLASSES, ["--oaa", "3"]),
        (CLASSES, ["--oaa", "3", "--indexing", "1", "--scores"]),
        (b"1 |f\n0 |f\n3 |f\n" * 3, ["--oaa", "3", "--passes", "3", "-c", "-k", "--holdout_off"]),
        (CLASSES, ["--oaa", "3", "-t"]),
    ],
)
def test_what_is_said(text: bytes, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(text)

    def said(program: str) -> list[bytes]:
        done = subprocess.run(
            [sys.executable, "-c", program, "-d", "a", *options],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        return done.stdout.splitlines()

    ours = said(OURS)
    # The wheel's parser and learner are threads, and the order of what they say is up to these.
    theirs = said(THEIRS)
    for _ in range(TURNS):
        if theirs == ours:
            break
        theirs = said(THEIRS)
    assert ours == theirs
