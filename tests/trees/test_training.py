"""How many threads a training has: those that nobody else uses."""

from __future__ import annotations

import pytest

from onlinestack.trees import training
from onlinestack.trees.training import Trainer


@pytest.mark.parametrize(
    ("cores", "others", "waited", "threads"),
    [
        (2, 0, True, 2),
        (2, 0, False, 1),  # the stream has one
        (2, 1, True, 1),
        (2, 7, True, 1),
        (8, 0, False, 4),  # no more than were asked for
        (8, 5, True, 3),
        (1, 0, True, 1),
    ],
)
def test_a_training_takes_the_cores_that_are_free(monkeypatch, cores, others, waited, threads):
    monkeypatch.setattr(training, "CORES", cores)
    monkeypatch.setattr(training, "_others", lambda: others)
    trainer = Trainer(background=False)
    trainer._waited = waited
    assert trainer._threads(4) == threads
    assert trainer._threads(1) == 1


def test_others_are_counted():
    assert 0 <= training._others() < 10_000
