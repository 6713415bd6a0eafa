from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from onlinestack import terminal
from onlinestack.terminal import live_line

ROOT = Path(__file__).parents[1]
CLICKS = ROOT / "streams" / "clicks.parquet"

FIGURES = {
    "log_loss": 0.28123,
    "generations": 7,
    "best": "newton 30000",
    "training": {"trees": 9, "trees on pairs": 9},
    "weights": {},
}


class Halfway:
    """A run that has read half of its bytes, 20 of them before it began."""

    read = 1_234_567

    def __init__(self, size: int | None = 100) -> None:
        self._size = size

    def size(self) -> tuple[int | None, int]:
        return self._size, 50

    def seconds(self) -> float:
        return 60.0

    def checkpoint(self) -> Any:
        return FIGURES


@pytest.mark.parametrize(
    ("room", "line"),
    [
        (20, " 50%  1,234,567"),
        (39, " 50%  1,234,567  log-loss 0.2812"),
        (79, " 50%  [######.......]  1,234,567  3,100/s  log-loss 0.2812  training trees 9 +1"),
        (
            139,
            " 50%  [#################..................]  1,234,567 records  3,100/s"
            "  log-loss 0.2812  best newton 30000  training trees 9 +1  1:40 left",
        ),
    ],
)
def test_what_matters_least_is_left_out_first(room: int, line: str) -> None:
    run: Any = Halfway()
    shown = live_line(run, 20, FIGURES, 3100.0, room)
    assert shown == line
    assert len(shown) <= room


def test_no_line_is_longer_than_its_room() -> None:
    for room in range(200):
        for run in (Halfway(), Halfway(None)):
            assert len(live_line(run, 0, FIGURES, 12345.6, room)) <= room  # type: ignore[arg-type]


def test_a_pipe_has_no_bar_and_no_end() -> None:
    run: Any = Halfway(None)
    assert live_line(run, 0, {**FIGURES, "training": {}, "best": None}, 10.0, 120) == (
        "1,234,567 records  10/s  log-loss 0.2812  generations 7"
    )
    assert live_line(run, 0, {}, None, 120) == "1,234,567 records"


def test_other_tasks_tell_what_they_lose() -> None:
    run: Any = Halfway(None)
    assert "MAE 12.500" in live_line(run, 0, {"mae": 12.5, "rmse": 20.0}, None, 80)


def watched(
    columns: int, *options: str, environment: dict[str, str] | None = None, source: str = ""
) -> str:
    """Return all that a person's terminal was sent by a run with stderr on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = "from onlinestack import terminal, cli; terminal.TICK = terminal.FRESH = 0.0; "
    program += "cli.app(prog_name='onlinestack')"
    command = [sys.executable, "-c", program, "learn", source or str(CLICKS), "--label", "click"]
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    clean |= {"TERM": "xterm", "PYTHONPATH": str(ROOT), **(environment or {})}
    process = subprocess.Popen(
        [*command, "--preset", "linear", "--limit", "20000", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=clean,
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            some = os.read(ours, 1 << 16)
        except OSError:  # what Linux says when the other side has left
            break
        if not some:
            break
        sent += some
    os.close(ours)
    assert process.wait(60) == 0, sent
    assert process.stdout is not None
    process.stdout.close()
    return sent.decode()


def on_screen(sent: str, columns: int) -> list[str]:
    """Return the lines that stay, as a terminal shows them."""
    lines = []
    for line in sent.replace("\r\n", "\n").split("\n"):
        shown = ""
        for piece in line.split("\r"):
            wiped = piece.endswith("\x1b[K")
            piece = re.sub(r"\x1b\[[0-9;]*[mK]", "", piece)
            assert len(piece) < columns or not wiped, "a live line may not wrap"
            shown = piece if wiped else piece + shown[len(piece) :]
        lines.append(shown)
    return lines


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_a_terminal_shows_a_live_line_and_keeps_only_the_table(columns: int) -> None:
    sent = watched(columns)
    live = re.findall(r"\r([^\r\n]*\S)\x1b\[K", sent)
    assert any("log-loss 0." in line for line in live)
    assert any(re.search(r"\d/s", line) for line in live)
    parts = [int(line[:4].strip(" %")) for line in live if line[3:4] == "%"]
    assert parts == sorted(parts) and 0 < parts[len(parts) // 2] < 100
    assert any("[#" in line for line in live) == (columns > 40)
    kept = on_screen(sent, columns)
    assert not any("%  " in line for line in kept)
    assert sum(re.match(r" +\d[\d,]* ", line) is not None for line in kept) == 15
    assert any(line.startswith("read 20,000 = learned 20,000") for line in kept)


def test_a_terminal_without_colour_gets_none() -> None:
    assert "\x1b[1m" in watched(80)
    assert re.search(r"\x1b\[[0-9;]*m", watched(80, environment={"NO_COLOR": "1"})) is None


def test_a_dumb_terminal_gets_plain_lines() -> None:
    sent = watched(80, environment={"TERM": "dumb"})
    assert "\x1b" not in sent and "\r" not in sent.replace("\r\n", "\n")


def test_logs_get_plain_lines() -> None:
    command = [sys.executable, "-m", "onlinestack.cli", "learn", str(CLICKS), "--label", "click"]
    done = subprocess.run(
        [*command, "--preset", "linear", "--limit", "2000"],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0
    assert b"\x1b" not in done.stderr and b"\r" not in done.stderr


def test_pieces_are_small_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    from onlinestack.config import Config
    from onlinestack.run import Run

    class Watching(terminal.QuietReport):
        def __init__(self, live: bool) -> None:
            self.live, self.places = live, list[int]()

        def tick(self, run: Any) -> None:
            self.places.append(run.size()[1])

    for live in (False, True):
        report = Watching(live)
        monkeypatch.setattr("onlinestack.run.SOON", 1e-9)
        options = {"paths": [str(CLICKS)], "label": "click", "preset": "linear", "bits": 10}
        assert Run(Config.resolve(options, environment={}), report).go() == 0
        assert report.places == sorted(report.places)
        assert report.places[-1] == CLICKS.stat().st_size
        assert (len(report.places) > 80) == live
