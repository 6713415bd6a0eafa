"""Boosted trees of XGBoost and LightGBM, trained again and again on the recent past.

Both are batch learners; what their users do with a stream is to train anew every so often. Here:
at 250 labelled records, then after half as many again, until every 20,000, on the last 200,000;
with the time of training on the clock, in the foreground. Until the first model the click rate so
far is predicted.

Both are set up after their pages on tuning, against overfitting: XGBoost's "Notes on Parameter
Tuning" (a smaller ``eta``, ``min_child_weight``, ``subsample``, ``colsample_bytree``), LightGBM's
"Parameters Tuning" (``min_data_in_leaf``, bagging, ``feature_fraction``) and "Advanced Topics"
(integer-coded categories as ``categorical_feature``). The values are the best of a handful tried on
the first 40,000 records of five streams; with the defaults log-loss was 0.01 to 0.25 worse.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tracks import Deadline, Track

from peers.base import Described
from peers.baselines import RunningRate
from peers.matrix import Matrix, coded
from peers.statistics import statistics

__all__ = ["Retrained", "lightgbm", "xgboost"]

FIRST, EVERY, WINDOW, THREADS, ROUNDS = 250, 20_000, 200_000, 2, 100
CHUNK = 8192
"""Records predicted at once; a matter of speed, and of how soon a deadline is seen."""
SCHEDULE = f"at {FIRST:,}, x1.5 until every {EVERY:,}, on the last {WINDOW:,}"
XGBOOST = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.05,
    "max_depth": 6,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "nthread": THREADS,
    "seed": 0,
}
LIGHTGBM = {
    "objective": "binary",
    "learning_rate": 0.05,
    "min_data_in_leaf": 100,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "num_threads": THREADS,
    "seed": 0,
    "verbosity": -1,
}
Model = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Retrained(Described):
    """A batch learner over a matrix.

    Parameters
    ----------
    train
        Makes a model of rows and labels; told the matrix, for its names and levels.
    statistical
        Whether the matrix is that of the product's statistics, instead of coded columns.
    """

    train: Callable[[Matrix, NDArray[np.float32], NDArray[np.float64]], Model] = None  # type: ignore[assignment]
    statistical: bool = False

    def run(self, track: Track, deadline: Deadline) -> NDArray[np.float64]:
        """Return the probabilities of the records that were predicted before the deadline."""
        self.versions()
        # threads that wait must not spin: beside other processes they would take 20 times as long
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        matrix = statistics(track, deadline) if self.statistical else coded(track)
        n, labels = len(matrix.x), track.labels
        p = RunningRate("", "").run(track, deadline)[:n]
        learned = np.flatnonzero(~np.isnan(labels))
        # the record from which on so many labels are known
        begins = learned + track.delay + 1
        model: Model | None = None
        due, at = FIRST, 0
        while at < n and not deadline.passed:
            swap = int(begins[due - 1]) if due <= len(begins) else n
            stop = min(n, swap, at + CHUNK)
            if model is not None and stop > at:
                p[at:stop] = model(matrix.x[at:stop])
            at = stop
            if at == swap and at < n:
                rows = learned[max(0, due - WINDOW) : due]
                if 0 < labels[rows].sum() < len(rows):
                    model = self.train(matrix, matrix.x[rows], labels[rows])
                due += min(EVERY, due // 2)
        return p[:at]


def train_xgboost(matrix: Matrix, x: NDArray[np.float32], y: NDArray[np.float64]) -> Model:
    """Train XGBoost once."""
    import xgboost as xgb

    booster = xgb.train(XGBOOST, xgb.QuantileDMatrix(x, y, nthread=THREADS), ROUNDS)
    return lambda rows: np.asarray(booster.inplace_predict(rows), np.float64)


def train_lightgbm(matrix: Matrix, x: NDArray[np.float32], y: NDArray[np.float64]) -> Model:
    """Train LightGBM once."""
    import lightgbm as lgb

    data = lgb.Dataset(x, y, feature_name=[f"f{k}" for k in range(x.shape[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster = lgb.train(
            LIGHTGBM, data.set_categorical_feature(list(matrix.levels)), num_boost_round=ROUNDS
        )
    return lambda rows: np.asarray(booster.predict(rows, num_threads=THREADS), np.float64)


def xgboost(name: str, *, statistical: bool) -> Retrained:
    """Return XGBoost on coded columns, or on the product's statistics."""
    reads = (
        "plain numbers and the product's click-rate statistics" if statistical else "columns, coded"
    )
    settings: dict[str, Any] = {"reads": reads, "trained": SCHEDULE, "rounds": ROUNDS, **XGBOOST}
    return Retrained(name, "XGBoost", ("xgboost",), settings, (), train_xgboost, statistical)


def lightgbm(name: str, *, statistical: bool) -> Retrained:
    """Return LightGBM on columns, categories of its own kind, or on the product's statistics."""
    reads = "plain numbers and the product's click-rate statistics"
    reads = reads if statistical else "columns, categories as categorical_feature"
    settings: dict[str, Any] = {"reads": reads, "trained": SCHEDULE, "rounds": ROUNDS, **LIGHTGBM}
    return Retrained(name, "LightGBM", ("lightgbm",), settings, (), train_lightgbm, statistical)
