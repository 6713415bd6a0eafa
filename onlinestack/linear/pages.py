"""Makes the pages of a table before they are used, beside whatever else goes on."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from onlinestack.kernel import kernel, touch

__all__ = ["populate"]

PAGE = 1 << 12
LARGEST = 1 << 29
"""Bytes of a table that may be made before it is known whether all of it will be used."""


def populate(table: Any) -> None:
    """Let the system make the zero pages of a table in the background.

    Otherwise they are made one by one as the first records touch them, which takes half a second
    for 256 MB where the system has no free pages at hand. To ask the system itself for them
    (``madvise``) takes as long, and lets no other thread map memory meanwhile. Nothing is done
    for tables of more than half a GiB.

    Parameters
    ----------
    table
        A contiguous array of 32-bit numbers; may be used at once, also by others.
    """
    if table.nbytes > LARGEST:
        return
    words = table.view(np.uint32)
    threading.Thread(target=_touch_all, args=(words,), name="populate", daemon=True).start()


@kernel()
def _touch_all(words: Any) -> None:
    """Write to each page what it holds."""
    for at in range(0, len(words), PAGE // 4):
        touch(words, at)
