"""All learners of the benches: ours, and what people would otherwise use."""

from __future__ import annotations

from ours import ours
from peers import peers
from tracks import Peer

__all__ = ["learners"]


def learners() -> dict[str, Peer]:
    """Return every learner by name, ours first."""
    return {**ours(), **peers()}
