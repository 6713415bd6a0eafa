from __future__ import annotations

import threading

import numpy as np

from onlinestack.linear.pages import populate


def test_populating_changes_no_value() -> None:
    table = np.zeros(1 << 22, np.float32)
    table[5] = 1.0
    populate(table)
    for thread in threading.enumerate():
        if thread.name == "populate":
            thread.join()
    assert table[5] == 1.0
    assert np.count_nonzero(table) == 1
