"""Compiling in two processes: what the other one does, and that it is gone at the end."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from onlinestack import compiling
from onlinestack.kernel import cache_folder


def test_the_other_process_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(RuntimeError, match="stopped"), compiling.helped():
        assert started[0].poll() is None
        raise RuntimeError("stopped")
    assert started[0].returncode is not None


def test_without_another_process_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    done = []
    with compiling.helped():
        done.append("work")
    assert done == ["work"]


@pytest.mark.skipif(cache_folder() is None, reason="there is no folder to keep kernels in")
def test_the_other_process_reaches_the_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    from onlinestack.stacker import OnlineStacker

    made: list[OnlineStacker] = []

    class Kept(OnlineStacker):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr("onlinestack.stacker.OnlineStacker", Kept)
    compiling._compile()
    assert any(event["accepted"] for event in made[0].events())
