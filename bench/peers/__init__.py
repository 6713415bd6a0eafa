"""What people would otherwise use, each set up the way its own documentation recommends.

`peers` lists them. A peer imports its library only when it is run or asked for its version; without
it, it raises `NotInstalled` with one sentence.
"""

from __future__ import annotations

from tracks import Peer

from peers.baselines import LastLabel, RunningRate
from peers.of_capymoa import CAPYMOA
from peers.of_river import RIVER
from peers.of_sklearn import SGD
from peers.retrained import lightgbm, xgboost
from peers.vw import VowpalWabbit

__all__ = ["peers"]

RATES = (0.05, 0.15, 0.5, 1.5, 5.0)


def peers() -> dict[str, Peer]:
    """Return every peer by name, in the order of the page.

    >>> list(peers())[:3]
    ['running rate', 'last label', 'VW']
    """
    every: list[Peer] = [
        RunningRate("running rate", "baseline", settings={"predicts": "click rate so far"}),
        LastLabel("last label", "baseline", settings={"predicts": "0.999 for the last label"}),
        VowpalWabbit.of("VW"),
        VowpalWabbit.of("VW -q ::", "-q", "::"),
        VowpalWabbit.of("VW --ftrl", "--ftrl"),
        VowpalWabbit.of("VW, best rate", rates=RATES),
        VowpalWabbit.of("VW -q ::, best rate", "-q", "::", rates=RATES),
        xgboost("XGBoost", statistical=False),
        xgboost("XGBoost on our statistics", statistical=True),
        lightgbm("LightGBM", statistical=False),
        lightgbm("LightGBM on our statistics", statistical=True),
        *RIVER,
        SGD,
        *CAPYMOA,
    ]
    return {peer.name: peer for peer in every}
