"""Modules that come later, and memory that comes sooner."""

from __future__ import annotations

import gc
import sys

from onlinestack.spare import later, uncollected


def test_a_later_module_is_imported_at_first_use() -> None:
    name = "this"
    sys.modules.pop(name, None)
    module = later(name)
    assert name not in sys.modules
    assert len(module.s) > 800
    assert name in sys.modules


def test_importing_is_not_watched_by_the_collector() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
