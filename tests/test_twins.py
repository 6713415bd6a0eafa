"""The bundled sample scores the same, bit for bit, with kernels and with their plain twins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "streams" / "clicks.parquet"

SCRIPT = """
import sys
from onlinestack import LinearLearner, open_source
from onlinestack.kernel import TWINS

source = open_source(sys.argv[1], label="click", time="time", ignore=("id",))
learner = LinearLearner(bits=10, **eval(sys.argv[2]))
learner.start(source.schema)
batch = next(iter(source)).rows(0, int(sys.argv[3]))
print(TWINS)
print(learner.progress(batch).tobytes().hex())
for name, array in sorted(learner.state()[0].items()):
    print(name, array.tobytes().hex())
"""

SETTINGS = {
    "default": ({}, 150),
    "pairs": ({"interactions": ("ff",), "l1": 1e-6, "l2": 1e-6}, 20),
    "sgd": ({"update": "sgd", "loss": "squared", "task": "click"}, 60),
    "coin": ({"update": "coin"}, 60),
    "ftrl": ({"update": "ftrl"}, 60),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_sample_scores_the_same_both_ways(name: str) -> None:
    if not SAMPLE.exists():
        pytest.skip("the bundled sample is part of the repository, not of the package")
    settings, records = SETTINGS[name]

    def run(twins: str) -> list[str]:
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(SAMPLE), repr(settings), str(records)],
            env={**os.environ, "ONLINESTACK_TWINS": twins},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    kernels, twins = run("0"), run("1")
    assert (kernels[0], twins[0]) == ("False", "True")
    differing = [a.split()[0] for a, b in zip(kernels[1:], twins[1:], strict=True) if a != b]
    assert not differing
