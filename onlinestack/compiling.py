"""The first run ever of a stack compiles its kernels in two processes, from both ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from onlinestack.block import Block, immediate_tape
from onlinestack.kernel import compiled_before

__all__ = ["announced", "helped"]

ENOUGH = 600
"""Records that trees are trained on."""


def announced(stack: bool, tell: Callable[[str], None]) -> AbstractContextManager[None]:
    """Say so where a learner's kernels are not compiled yet, and let a stack's be `helped`.

    Parameters
    ----------
    stack
        Whether the learner is a stack, or one linear learner.
    tell
        Says one line to the user.

    Examples
    --------
    >>> with announced(False, lambda text: None):
    ...     pass
    """
    # One of the modules that each learner compiles speaks for the others.
    if compiled_before("mixture" if stack else "learner"):
        return nullcontext()
    tell("compiling for this machine, once: takes up to a minute")
    return helped() if stack else nullcontext()


@contextmanager
def helped() -> Iterator[None]:
    """Let another process compile a stack's kernels into the cache meanwhile, the last ones first.

    Use it around work whose kernels are not compiled yet: what the other process was quicker with
    is only loaded here. Where it cannot be started, or fails, all is compiled here.

    Examples
    --------
    >>> from onlinestack import OnlineStacker
    >>> with helped():
    ...     model = OnlineStacker()
    """
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
    except OSError:
        yield
        return
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _compile() -> None:
    # Whoever only announces a linear learner need not wait for its import.
    from onlinestack.stacker import OnlineStacker

    model = OnlineStacker(train_first=ENOUGH, train_threads=1, background=False)
    stack = model._started()
    nothing = stack.layout.lay(Block.of([]))
    tape = immediate_tape(nothing.label)
    for part in reversed(stack.engine.parts.values()):
        part.run(nothing, tape)
    # Training, judging and serving generations.
    for i in range(2 * ENOUGH):
        model.learn_one({"a": i % 7, "b": f"{i % 5}"}, i % 3 == 0)


if __name__ == "__main__":
    _compile()
