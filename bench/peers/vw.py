"""Vowpal Wabbit's wheel, run as it comes over a text file made from the track.

After its wiki's pages "Input format", "Command line arguments" and "Feature interactions": one
namespace a field, called by one letter; ``field=value`` for categories, ``field:size`` for numbers,
one feature a token for texts; missing values left out; ``--loss_function logistic`` with labels -1
and 1; ``--link logistic -p`` prints probabilities made before the label was learned. The size of a
number is its log(1 + x), with its sign, since ``--ftrl`` does not scale what it reads; that is a
little better without ``--ftrl``, too.

With late labels a record stands in the file twice: without a label where it is predicted, and with
it where the label comes. Making the file is no part of a run: `VowpalWabbit.prepare` makes it ahead
of the clock.
"""

from __future__ import annotations

import itertools
import math
import string
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, Track

from peers.base import Described

__all__ = ["VowpalWabbit"]

ALWAYS = ("--loss_function", "logistic", "--link", "logistic", "-b", "22", "--quiet")
LETTERS = string.ascii_letters
SPACES = str.maketrans(dict.fromkeys(" \t\r\n|:", "_"))


def lines(track: Track) -> Iterator[tuple[str, bool]]:
    """Yield each line of the track's text, and whether its prediction counts."""
    kinds, letters = track.kinds, itertools.cycle(LETTERS)
    heads = {name: (next(letters), name.translate(SPACES)) for name in kinds}
    signs = ["" if y != y else "1" if y > 0 else "-1" for y in track.labels.tolist()]
    waiting: deque[tuple[str, str]] = deque()
    for sign, record in zip(signs, track.records(), strict=False):
        text = " ".join(_said(*heads[name], kinds[name], v) for name, v in record.items())
        if not track.delay:
            yield f"{sign} {text}\n", True
            continue
        yield f" {text}\n", True
        waiting.append((sign, text))
        if len(waiting) > track.delay:
            sign, text = waiting.popleft()
            if sign:
                yield f"{sign} {text}\n", False


def _said(letter: str, name: str, kind: str, value: object) -> str:
    if kind == "numeric":
        number = float(value)  # type: ignore[arg-type]
        return f"|{letter} {name}:{math.copysign(math.log1p(abs(number)), number):.6g}"
    text = str(value)
    if kind == "text":
        return f"|{letter} {' '.join(token.translate(SPACES) for token in text.split())}"
    return f"|{letter} {name}={text.translate(SPACES)}"


@dataclass(frozen=True)
class VowpalWabbit(Described):
    """One command, or the best of several learning rates, chosen when all are through.

    Parameters
    ----------
    arguments
        What is said beside what is always said.
    rates
        Learning rates to choose from; none for what the command has by itself.
    """

    arguments: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    _texts: dict[str, tuple[Path, NDArray[np.bool_]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, name: str, *arguments: str, rates: tuple[float, ...] = ()) -> VowpalWabbit:
        """Return a peer whose settings are its command."""
        settings: dict[str, object] = {"command": "vw " + " ".join((*ALWAYS, *arguments))}
        marks = ("learning rate chosen afterwards",) if rates else ()
        if rates:
            settings["-l"] = f"best of {', '.join(map(str, rates))}"
        return cls(name, "Vowpal Wabbit", ("vowpalwabbit",), settings, marks, arguments, rates)

    def prepare(self, track: Track, folder: Path) -> None:
        """Write the track's text to a folder, ahead of the clock; `run` does it where it lacks."""
        path, counted = folder / f"{track.name}.vw", []
        with path.open("w", encoding="utf-8") as file:
            for line, counts in lines(track):
                file.write(line)
                counted.append(counts)
        self._texts[track.name] = path, np.array(counted, np.bool_)

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of the records that were predicted before the deadline."""
        self.versions()
        with tempfile.TemporaryDirectory(prefix="onlinestack-vw-") as folder:
            if track.name not in self._texts:
                self.prepare(track, Path(folder))
            text, counted = self._texts.pop(track.name)
            rates = self.rates or (None,)
            runs = []
            for number, rate in enumerate(rates):
                more = () if rate is None else ("-l", str(rate))
                share = 1 / (len(rates) - number)
                runs.append(self._once(text, Path(folder), more, deadline, share))
        seen = min(map(len, runs))
        counted = counted[:seen]
        runs = [p[:seen][counted] for p in runs]
        return min(runs, key=lambda p: log_loss(track.labels[: len(p)], p))

    def _once(
        self, text: Path, folder: Path, more: tuple[str, ...], deadline: Deadline, share: float
    ) -> NDArray[np.float64]:
        """Return the prediction of each line that was predicted in its share of the time."""
        answers, said = folder / "predictions", folder / "said"
        answers.unlink(missing_ok=True)
        command = [sys.executable, "-m", "vowpalwabbit", "-d", str(text), "-p", str(answers)]
        command += [*ALWAYS, *self.arguments, *more]
        with said.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            if not deadline.wait(process, share):
                process.kill()
            elif process.returncode:
                told = said.read_text(errors="replace")
                raise RuntimeError(f"exit code {process.returncode} from vw\n{told[-2000:]}")
        written = answers.read_bytes() if answers.exists() else b""
        return np.array(written[: written.rfind(b"\n") + 1].split(), np.float64)


def log_loss(labels: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    """Return the mean log-loss over the records with a label, probabilities clipped to 1e-6."""
    known = ~np.isnan(labels)
    said = np.clip(np.where(labels > 0, p, 1 - p)[known], 1e-6, 1.0)
    return float(-np.log(said).mean()) if len(said) else 0.0
