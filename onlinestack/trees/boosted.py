"""Trains a generation: XGBoost on the rows of a window, binned once for all that learn from them.

Notes
-----
What is dear, for 200,000 rows and 290 columns at one thread: binning 14 core-seconds, a generation
of 60 trees of depth 6 another 19 (m). XGBoost's ``hist`` adds up every row and every column of its
matrix whatever ``subsample`` and ``colsample`` say (18 to 20 seconds for 0.3 as for 1.0), so time
is saved only by what does not get into the matrix: columns that do not pay stay out (`paying`),
and the edges of the bins are our own (`onlinestack.trees.edges`), which saves half of binning.

Gradients are our own, too, so that their sums are exact (`onlinestack.trees.gradients`): the same
rows give the same trees on any number of threads, which may change between two trees.

References
----------
[^1]: Tianqi Chen and Carlos Guestrin, "XGBoost: A Scalable Tree Boosting System", 2016.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.trees.edges import edges_of
from onlinestack.trees.gradients import fill_gradients, grid_of
from onlinestack.trees.model import COLUMNS

__all__ = ["Binned", "Model", "Rows", "TrainingError", "TreeSettings", "bin_rows", "fit", "paying"]

SKETCH = 20_000
"""Rows that the edges of bins are made from, about, and columns that pay are found in."""

BATCH = 8_192
"""Rows handed to XGBoost at a time."""

LARGEST = np.float32(1.7e38)
"""XGBoost refuses infinity, and the edge behind a column's largest value may not be one."""

SCREEN = 20
"""Trees that `paying` grows."""

SURE = np.float32(1e12)
"""Weight of columns that may be drawn. XGBoost draws one of weight 0 only if it must."""


class TrainingError(RuntimeError):
    """No generation came of it: too few clicks, out of memory, or XGBoost refused."""


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """How a generation is trained.

    Use the defaults first; ``rounds``, ``eta`` and ``depth`` matter most, the window's rows and
    columns cost most.

    Parameters
    ----------
    depth
        Most splits from root to leaf, 1 to 16.
    eta
        Learning rate, above 0 and at most 1.
    rounds
        Trees of a generation; with early stopping, the most.
    max_bin
        Bins a column, 2 to 256; as given to `bin_rows`.
    subsample, colsample
        Shares of rows and columns that each tree sees, above 0 and at most 1.
    min_child_weight
        Least sum of p(1-p) in a leaf, weights included.
    l2, gamma
        Penalty on leaf values; least gain of a split.
    leaves
        Most leaves of a tree, the best split first; 0 for no limit, level by level.
    early_stopping
        Stop when the loss on the newest rows has not improved for so many rounds, and keep the
        best; 0 trains all rounds on all rows.
    held
        Share of the rows, the newest, that early stopping looks at and does not learn from.
    min_clicks
        Fewest clicks, and fewest non-clicks, to train on.
    nthread
        Threads.
    seed
        Seed of the draws of rows and columns.

    Raises
    ------
    ValueError
        When a value lies outside its range.

    Examples
    --------
    >>> TreeSettings(rounds=20).eta
    0.08
    >>> TreeSettings(eta=0)
    Traceback (most recent call last):
    ValueError: eta 0 was given for the trees, expected above 0 and at most 1; change it.
    """

    depth: int = 6
    eta: float = 0.08
    rounds: int = 60
    max_bin: int = 64
    subsample: float = 0.8
    colsample: float = 0.3
    min_child_weight: float = 10.0
    l2: float = 1.0
    gamma: float = 0.0
    leaves: int = 0
    early_stopping: int = 0
    held: float = 0.1
    min_clicks: int = 10
    nthread: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {name: (0.0, 1.0) for name in ("eta", "subsample", "colsample")}
        ends = {"depth": (1, 16), "rounds": (1, math.inf), "max_bin": (2, 256)}
        ends |= {"min_clicks": (1, math.inf), "nthread": (1, math.inf), "seed": (0, 2**31 - 1)}
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in shares:
                fits, wanted = 0 < value <= 1, "above 0 and at most 1"
            elif name == "held":
                fits, wanted = 0 < value < 1, "between 0 and 1"
            else:
                low, high = ends.get(name, (0, math.inf))
                whole = not isinstance(field.default, int) or value == int(value)
                fits = math.isfinite(value) and low <= value <= high and whole
                wanted = f"{'' if field.default.__class__ is float else 'a whole number, '}"
                wanted += f"at least {low}" if high == math.inf else f"{low} to {high}"
            if not fits:
                raise ValueError(
                    f"{name} {value} was given for the trees, expected {wanted}; change it."
                )


class Rows(NamedTuple):
    """A stretch of learned records, oldest first.

    Parameters
    ----------
    table
        ``float32[n, t]``: what trees read; NaN is missing.
    label
        ``float32[n]``: above 0 is a click.
    weight
        ``float32[n]``: importance.
    """

    table: NDArray[np.float32]
    label: NDArray[np.float32]
    weight: NDArray[np.float32]


class Binned(NamedTuple):
    """A window in XGBoost's own form, for any number of `fit`, one after another.

    Parameters
    ----------
    matrix
        The ``xgboost.QuantileDMatrix``.
    click
        ``float32[n]``: 1 for a click, 0 for none.
    weight
        ``float32[n]``: importance.
    columns
        ``int32[m]``: the table's columns it holds.
    max_bin
        Bins a column.
    """

    matrix: Any
    click: NDArray[np.float32]
    weight: NDArray[np.float32]
    columns: NDArray[np.int32]
    max_bin: int


class Model(NamedTuple):
    """A trained generation.

    Parameters
    ----------
    data
        XGBoost's UBJSON, for `onlinestack.trees.forest.flatten`; it knows its columns itself.
    rounds
        Trees kept.
    seconds
        Wall time of training, without binning.
    loss
        Log-loss a unit of weight on the rows held back; None without early stopping.
    """

    data: bytes
    rounds: int
    seconds: float
    loss: float | None


def bin_rows(
    chunks: Sequence[Rows],
    max_bin: int = 64,
    nthread: int = 1,
    columns: Sequence[int] | None = None,
) -> Binned:
    """Bin the rows of a window, once for all generations of one cut.

    Use it before `fit`. The result depends on the rows and not on where chunks end, and keeps
    nothing of them but labels and weights: they may be overwritten afterwards. Infinite values
    count as the largest ones.

    Parameters
    ----------
    chunks
        The window, oldest first.
    max_bin
        Bins a column, 2 to 256.
    nthread
        Threads.
    columns
        Numbers of the table's columns to take; all when left out.

    Raises
    ------
    TrainingError
        When there are no rows or columns, memory does not suffice, or XGBoost refuses.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(400, 3)).astype(np.float32)
    >>> rows = Rows(table, (table[:, 1] > 0).astype(np.float32), np.ones(400, np.float32))
    >>> binned = bin_rows([rows])
    >>> binned.matrix.num_row(), binned.columns.tolist()
    (400, [0, 1, 2])
    """
    tables = [rows.table for rows in chunks if len(rows.label)]
    width = tables[0].shape[1] if tables else 0
    taken = np.array(range(width) if columns is None else columns, np.int32)
    n = sum(len(table) for table in tables)
    if n == 0 or len(taken) == 0:
        raise TrainingError(
            f"{n} rows of {len(taken)} columns were given to trees, expected one at least of each; "
            "wait for more records."
        )
    with _training(n):
        import xgboost

        every = max(1, n // SKETCH)
        some = np.concatenate([_prepared(part, taken) for part in _every(tables, every)])
        edges = xgboost.QuantileDMatrix(edges_of(some, max_bin), max_bin=max_bin, nthread=1)
        del some
        matrix = xgboost.QuantileDMatrix(
            _batches(tables, taken), max_bin=max_bin, nthread=nthread, ref=edges
        )
    return Binned(
        matrix,
        np.concatenate([rows.label > 0 for rows in chunks]).astype(np.float32),
        np.concatenate([rows.weight for rows in chunks]).astype(np.float32),
        taken,
        max_bin,
    )


def fit(
    binned: Binned,
    settings: TreeSettings,
    *,
    base: NDArray[np.float32] | None = None,
    columns: Sequence[int] | None = None,
    threads: Callable[[], int] | None = None,
) -> Model:
    """Train a generation; the same rows, settings and seed give the same bytes.

    Use it on a `Binned` window as often as there are tree members, but never twice at a time.

    Parameters
    ----------
    binned
        The window.
    settings
        How to train.
    base
        ``float32[n]``: margins, given before learning, that the trees start from, so that they
        learn what is left over; score with the same kind of margin.
    columns
        Numbers of the table's columns that trees may split on; all that were binned when left
        out. Columns stay dear: it is cheaper not to bin them.
    threads
        Asked before each tree how many threads may grow it; as the settings say when left out.
        The trees are the same.

    Raises
    ------
    TrainingError
        When there are fewer clicks or non-clicks than the settings say, memory does not suffice,
        or XGBoost refuses.
    ValueError
        When the settings' ``max_bin`` is not that of the window.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(400, 3)).astype(np.float32)
    >>> rows = Rows(table, (table[:, 1] > 0).astype(np.float32), np.ones(400, np.float32))
    >>> model = fit(bin_rows([rows]), TreeSettings(rounds=5))
    >>> model.rounds, model.loss
    (5, None)
    """
    if settings.max_bin != binned.max_bin:
        raise ValueError(
            f"max_bin {settings.max_bin} was given for a window of {binned.max_bin} bins a column, "
            "expected the same; bin the rows anew or change the settings."
        )
    n = len(binned.click)
    learned = n - int(n * settings.held) if settings.early_stopping else n
    clicks, weights = binned.click[:learned], binned.weight[:learned]
    counts = [int(np.count_nonzero((clicks == y) & (weights > 0))) for y in (1, 0)]
    if min(counts) < settings.min_clicks:
        raise TrainingError(
            f"{counts[0]} clicks and {counts[1]} non-clicks were given to trees, expected "
            f"{settings.min_clicks} at least of each; wait for more records or lower min_clicks."
        )
    allowed = np.isin(binned.columns, binned.columns if columns is None else list(columns))
    with _training(n):
        start = time.perf_counter()
        booster, rounds, loss = _boost(binned, settings, learned, base, allowed, threads=threads)
        used = [int(name[1:]) for name in booster.get_score(importance_type="weight")]
        if not allowed[used].all():
            raise TrainingError(
                "XGBoost drew columns that the trees may not split on; use another seed."
            )
        booster.set_attr(**{COLUMNS: ",".join(str(column) for column in binned.columns)})
        data = bytes(booster.save_raw("ubj"))
        return Model(data, rounds, time.perf_counter() - start, loss)


def paying(
    chunks: Sequence[Rows],
    settings: TreeSettings,
    keep: int,
    always: Sequence[int] = (),
    threads: Callable[[], int] | None = None,
) -> list[int]:
    """Return the columns that a few trees over some of the rows gain most from.

    Use it before `bin_rows`, because time goes with the number of columns. It costs about a
    tenth of what it saves at 96 of 290 columns.

    Parameters
    ----------
    chunks
        The window, oldest first.
    settings
        How the generation will be trained.
    keep
        How many columns to return; all where there are no more.
    always
        Numbers of columns to keep, whatever they gain.
    threads
        As for `fit`.

    Raises
    ------
    TrainingError
        As `fit` raises it.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(400, 9)).astype(np.float32)
    >>> rows = Rows(table, (table[:, 4] > 0).astype(np.float32), np.ones(400, np.float32))
    >>> paying([rows], TreeSettings(), keep=2, always=[0])
    [0, 4]
    """
    width = chunks[0].table.shape[1]
    if keep >= width:
        return list(range(width))
    n = sum(len(rows.label) for rows in chunks)
    every = max(1, n // SKETCH)
    offset, some = 0, []
    for rows in chunks:
        some.append(Rows(*(array[-offset % every :: every] for array in rows)))
        offset += len(rows.label)
    binned = bin_rows(some, settings.max_bin, threads() if threads else settings.nthread)
    with _training(n):
        booster, _, _ = _boost(
            binned, settings, len(binned.click), None, np.ones(width, bool), SCREEN, threads
        )
        gain = np.zeros(width)
        for name, total in booster.get_score(importance_type="total_gain").items():
            gain[int(name[1:])] = total
    gain[list(always)] = np.inf
    return sorted(np.argsort(-gain, kind="stable")[:keep].tolist())


def _boost(
    binned: Binned,
    settings: TreeSettings,
    learned: int,
    base: NDArray[np.float32] | None,
    allowed: NDArray[np.bool_],
    rounds: int | None = None,
    threads: Callable[[], int] | None = None,
) -> tuple[Any, int, float | None]:
    """Return the booster, its rounds and the loss on the rows behind those it learned."""
    import xgboost

    weight = binned.weight.copy()
    weight[learned:] = 0  # in the matrix and in its margins, but of no weight
    rate = np.average(binned.click[:learned], weights=weight[:learned])
    share = (settings.colsample * allowed.sum() + 0.5) / len(allowed)
    parameters = {
        "objective": "binary:logistic",
        "base_score": float(np.float32(np.clip(rate, 1e-6, 1 - 1e-6))),
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.eta,
        "max_bin": settings.max_bin,
        "subsample": settings.subsample,
        "colsample_bytree": min(share, 1.0),
        "min_child_weight": settings.min_child_weight,
        "lambda": settings.l2,
        "gamma": settings.gamma,
        "max_leaves": settings.leaves,
        "grow_policy": "lossguide" if settings.leaves else "depthwise",
        "nthread": settings.nthread,
        "seed": settings.seed,
        "verbosity": 0,
    }
    matrix = binned.matrix
    matrix.set_info(
        label=binned.click,
        weight=weight,
        base_margin=np.empty(0, np.float32) if base is None else base,
        feature_weights=np.where(allowed, SURE, np.float32(0)),
    )
    booster = xgboost.Booster(parameters, [matrix])
    best, kept = math.inf, 0
    grid, used = grid_of(weight), settings.nthread
    gradient, curvature = np.empty_like(weight), np.empty_like(weight)
    # The margins that boosting keeps of all rows: nothing is computed again.
    margin = booster.predict(matrix, output_margin=True, training=True)
    for done in range(1, (rounds or settings.rounds) + 1):
        if threads is not None and used != (used := threads()):
            booster.set_param({"nthread": used})
        fill_gradients(margin, binned.click, weight, grid, gradient, curvature)
        booster.boost(matrix, done - 1, grad=gradient, hess=curvature)
        margin = booster.predict(matrix, output_margin=True, training=True)
        if learned == len(weight):
            kept = done
            continue
        loss = _loss(margin, binned, learned)
        if loss < best:
            best, kept = loss, done
        elif done - kept >= settings.early_stopping:
            break
    if kept == 0:
        raise TrainingError(
            "The rows held back gave no finite loss, expected finite base margins and a weight "
            "above 0; lower early_stopping to 0 or raise held."
        )
    return booster[:kept], kept, best if learned < len(weight) else None


def _loss(margin: NDArray[np.float32], binned: Binned, learned: int) -> float:
    """Return the log-loss of the rows from ``learned`` on."""
    against = np.where(binned.click[learned:] > 0, -1.0, 1.0) * margin[learned:]
    weight = binned.weight[learned:].astype(np.float64)
    total = float(weight.sum())
    return float(weight @ np.logaddexp(0.0, against)) / total if total > 0 else math.nan


def _prepared(table: NDArray[np.float32], columns: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return some columns of a table, infinity made finite."""
    chosen = table if len(columns) == table.shape[1] else np.take(table, columns, axis=1)
    return np.clip(chosen, -LARGEST, LARGEST)


def _every(tables: list[NDArray[np.float32]], step: int) -> Iterator[NDArray[np.float32]]:
    """Yield every so-manieth row of tables that follow each other."""
    offset = 0
    for table in tables:
        yield table[-offset % step :: step]
        offset += len(table)


def _batches(tables: list[NDArray[np.float32]], columns: NDArray[np.int32]) -> Any:
    """Return XGBoost's iterator over the tables, a batch at a time."""
    import xgboost

    places = [(table, at) for table in tables for at in range(0, len(table), BATCH)]

    class Batches(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def next(self, input_data: Any) -> bool:
            place = next(self._places, None)
            if place is None:
                return False
            table, at = place
            input_data(data=_prepared(table[at : at + BATCH], columns))
            return True

        def reset(self) -> None:
            self._places = iter(places)

    return Batches()


@contextmanager
def _training(rows: int) -> Iterator[None]:
    """Tell what went wrong in one sentence; what is no failure of training passes through."""
    import xgboost

    try:
        yield
    except MemoryError:
        raise TrainingError(
            f"Memory did not suffice to train trees on {rows} rows; lower the window or max_bin."
        ) from None
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\n")[0].rpartition("Check failed: ")[2]
        raise TrainingError(
            f"XGBoost could not train trees on {rows} rows ({reason.strip()}); look at the "
            "settings of the trees."
        ) from None
