"""What both click learners share when they are embedded: late labels, and predictions meanwhile."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block, Tape
from onlinestack.engine import State
from onlinestack.estimator import Estimator, check_weight
from onlinestack.features.encoder import Encoder
from onlinestack.gate import Gate
from onlinestack.io.times import NOT_A_TIME
from onlinestack.labels.attribution import Rules
from onlinestack.labels.negatives import Negatives
from onlinestack.late import Late, LateLabel, key_of, microseconds

if TYPE_CHECKING:
    from onlinestack.io.source import Batch

__all__ = ["PREDICTED_ONLY", "Serving"]

PREDICTED_ONLY = ("duplicates", "evicted", "unnamed", "thinned")
"""Why records with an id are never learned."""
PIECE = 16
"""Most records learned while others wait to predict."""


class Serving(Estimator):
    """Predicts now and learns when the label is known, while other threads predict.

    A learner derives from it that has the arguments below and the hooks that follow them.

    River's ``evaluate.progressive_val_score`` with ``moment`` and ``delay`` works too, but names
    no record when it brings a label: the record is then learned as it would be encoded now, with
    the scores of now. Use ids where it is to be learned as it was served.

    Attributes
    ----------
    serving
        Whether other threads predict while one learns; to be set before the first record. Then
        at most 16 records are learned before those who wait are let in, trees train in one
        thread, and every prediction is that of the state before or after some record; results are
        the same.
    """

    window: float | None
    learn_at: str
    correct_late: float
    most_pending: int
    negatives: float
    seed: int
    serving: bool = False
    _late: Late | None = None

    def _opened(self) -> None:
        """Be started anew, without pending records."""
        self._late = None
        self._gate = Gate()
        self._unclicked = 0
        """Non-clicks that came with their labels."""

    @functools.cached_property
    def _negatives(self) -> Negatives:
        return Negatives(self.negatives, self.seed)

    # What a learner says of itself.

    def _encoding(self) -> Encoder:
        raise NotImplementedError

    def _meet(self, x: Mapping[Hashable, Any]) -> None:
        """Learn the fields that are new in a record."""
        raise NotImplementedError

    def _late_possible(self) -> None:
        """Refuse late labels where they make no sense."""

    def _block(self, batch: Batch, start: int, stop: int, learn: bool) -> Block:
        """Return the records of a batch from one row to another, encoded, maybe to be learned."""
        block = self._encoding().block(batch, start, stop, learn=learn)
        block.time = batch.seconds(start, stop)
        return block

    def _block_one(self, x: Mapping[Hashable, Any], y: Any, w: float) -> Block:
        """Return one record, encoded."""
        return self._encoding().block_one(x, y, w)

    def nothing(self) -> Block:
        """Return a block of no records."""
        return self._encoding().nothing()

    def lend(self) -> Block | None:
        """Return the laid block that single records are filled into; None while there is none."""
        block = self._encoding().lend()
        if block is None:
            return None
        block.time = np.full(1, np.nan)
        return self.lay(block)

    def lay(self, block: Block) -> Block:
        """Return a block of hashed features with room for all that is made of them."""
        raise NotImplementedError

    def kept(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return the arrays of a block that learning reads, by name, a row a record."""
        assert block.time is not None  # noqa: S101 - the driver gives it
        return {
            "weight": block.weight,
            "time": block.time,
            "numbers": block.numbers,
            "p": block.p,
        }

    def take(self, block: Block, tape: Tape) -> None:
        """Run the engine; ``block.p`` then holds what was predicted for the rows predicted."""
        raise NotImplementedError

    # Late labels.

    def _waiting(self) -> Late:
        """Return what keeps the pending records, made when first needed."""
        if self._late is None:
            engine = self._running()
            self._late_possible()
            window = None if self.window is None else microseconds(self.window)
            correct = microseconds(self.correct_late)
            rules = Rules(window, self.learn_at, correct, self.most_pending, self._negatives)
            self._late = Late(self, engine, rules)
        return self._late

    def _serve_one(
        self, x: Mapping[Hashable, Any], id: object, time: float | datetime | None, w: float
    ) -> NDArray[np.float32]:
        """Predict a record that will have a label; return its row of ``p``."""
        check_weight(w)
        late, encoder = self._waiting(), self._encoding()
        now = None if time is None else microseconds(time)
        if now is None and not late.attribution.started:
            raise ValueError(
                f"the record {id!r} has no time, which a window is counted from; give time in "
                "seconds, or leave window out"
            )
        with self._gate:
            late.pass_to(now)
            late.flush()
            if not encoder.knows(x):
                before = encoder.number_names()
                self._meet(x)
                late.widen(before, encoder.number_names())
            else:
                encoder.note(x)
            block = self._block_one(x, None, w)
            block.time = np.array([np.nan if now is None else now / 1e6])
            return late.serve_one(block, key_of(id), now)

    def _outcomes(self, x: Mapping[Hashable, Any]) -> dict[Any, float]:
        """Return the probability of each outcome of a record that will not have a label."""
        raise NotImplementedError

    def predict_proba_one(
        self,
        x: dict[Hashable, Any],
        *,
        id: object = None,
        time: float | datetime | None = None,
        w: float = 1.0,
        **kwargs: Any,
    ) -> dict[Any, float]:
        """Return the probabilities of no click and of a click, or of each class met so far.

        Parameters
        ----------
        x
            The record.
        id
            A text or number by which `label` will name the record; the record as it is served now
            is then kept until it is learned. None for a record that will not have a label.
        time
            Its time, in seconds or as a datetime.
        w
            Its importance, 0 or more, where it has an id.

        Raises
        ------
        ValueError
            Where the learner predicts numbers, which have no probabilities; with an id, where it
            predicts no clicks, there is a window and no time to count it from, or w is no weight.
        """
        if id is None:
            return self._outcomes(x)
        p = float(self._serve_one(x, id, time, w)[0])
        return {False: 1.0 - p, True: p}

    def label(self, id: object, y: Any = True, time: float | datetime | None = None) -> None:
        """Give the label of a record that was predicted with an id.

        The record is learned as it was served: from the features, scores and probabilities of
        that moment, whatever was learned since. With a ``window`` that is when stream time has
        passed its end, clicked or not (``learn_at="click"``: a click at once); without one it is
        now. A label that nobody waits for is counted, see `attributed`.

        Parameters
        ----------
        id
            The id, a text or a number.
        y
            Whether it was clicked.
        time
            When that was, in seconds or as a datetime; None for now in stream time.

        Raises
        ------
        ValueError
            Where time is none.

        Examples
        --------
        >>> from onlinestack import LinearLearner
        >>> model = LinearLearner(window=60)
        >>> p = model.predict_proba_one({"site": "news"}, id="a7", time=0)
        >>> model.label("a7", time=20)
        >>> model.learned, model.attributed()["pending"]
        (0, 1)
        >>> model.pass_to(61)
        >>> model.learned
        1
        """
        late = self._waiting()
        now = None if time is None else microseconds(time)
        with self._gate:
            late.label(key_of(id), bool(y), now)
            late.flush()

    def pass_to(self, time: float | datetime) -> None:
        """Let stream time pass where no record comes, and learn what is due by then.

        Parameters
        ----------
        time
            In seconds or as a datetime.

        Raises
        ------
        ValueError
            Where time is none.
        """
        late, now = self._waiting(), microseconds(time)
        with self._gate:
            late.pass_to(now)
            late.flush()

    def follow(self, batch: Batch, labels: Iterable[LateLabel] = ()) -> NDArray[np.float32]:
        """Predict the records of a batch, and learn those that become due, in stream order.

        Use it in a loop over files or a broker: it is `predict_proba_one`, `label` and `pass_to`
        for many at once, and its results are the same. Labels in the batch itself are not read.

        Parameters
        ----------
        batch
            Records as a source yields them, with ids; where there is a window, with times.
        labels
            Labels in stream order, each with the number of the batch's records before it.

        Returns
        -------
        ``float32[n]``: the click probabilities.

        Raises
        ------
        ValueError
            Where the batch has no ids, or no times though there is a window.
        """
        late = self._waiting()
        if batch.id is None or batch.features is not None:
            raise ValueError("late labels find their records by id; name the column with the id")
        if batch.time is None and self.window is not None:
            raise ValueError("a window is counted from the time of a record; name its column")
        ids = batch.id.to_pylist()
        times: list[int | None] = [None] * batch.n
        if batch.time is not None:
            times = [None if t == NOT_A_TIME else t for t in batch.time.tolist()]

        def block_of(start: int, stop: int) -> Block:
            return self._block(batch, start, stop, True)

        coming = sorted(labels, key=lambda label: label.before)
        piece = PIECE if self.serving else max(1, batch.n)
        answers, at = [], 0
        for start in range(0, max(1, batch.n), piece):
            stop = min(start + piece, batch.n)
            behind = at
            while behind < len(coming) and (coming[behind].before < stop or stop == batch.n):
                behind += 1
            with self._gate:
                answers.append(
                    late.follow(block_of, range(start, stop), ids, times, coming[at:behind])
                )
            at = behind
        return np.ascontiguousarray(np.concatenate(answers)[:, 0])

    def hear(self, labels: Iterable[LateLabel]) -> None:
        """Take in labels between which no record comes; `label` for many at once."""
        late = self._waiting()
        with self._gate:
            for label in labels:
                late.label(label.id, label.y, label.time)
            late.flush()

    def attributed(self) -> dict[str, int]:
        """Return what became of the records predicted with an id, and of their labels.

        Returns
        -------
        ``served`` = ``learned`` + ``predicted_only`` + ``pending``: the records. Those predicted
        only are ``duplicates``, whose id was known already, ``evicted`` ones, for which there was
        no room or no time, ``unnamed`` ones of a batch, which had no id, and ``thinned``
        non-clicks, which ``negatives`` left out. Of labels:
        ``unknown``, with an id that is not known or no longer; ``repeated``, of a record that was
        clicked before; ``late``, of one that was learned as not clicked, and of these
        ``corrected``. ``bytes_each`` is the memory of a pending record.
        """
        late = self._waiting()
        counts = late.attribution.counts
        return {
            **counts,
            "predicted_only": sum(counts[key] for key in PREDICTED_ONLY),
            "pending": late.attribution.pending,
            "bytes_each": late.store.bytes_each,
        }

    # Fewer non-clicks.

    def _weight(self, y: Any, w: float) -> float:
        """Return the weight to learn a record with whose label came at once; 0 to leave it out."""
        if self.negatives == 1 or y:
            return w
        self._running()
        kept = bool(self._negatives.keeps_numbers(self._unclicked, 1)[0])
        self._unclicked += 1
        return w / self.negatives if kept else 0.0

    def _thinned(self, batch: Batch) -> Batch:
        """Return a batch without the labels of non-clicks that are left out."""
        if self.negatives == 1:
            return batch
        self._running()
        none = np.flatnonzero(batch.label == 0)
        kept = self._negatives.keeps_numbers(self._unclicked, len(none))
        self._unclicked += len(none)
        label, weight = batch.label.copy(), batch.weight.copy()
        label[none[~kept]] = np.nan
        weight[none] /= np.float32(self.negatives)
        return replace(batch, label=label, weight=weight)

    # Many records at once.

    def _code(self, y: Any) -> float:
        """Return a label as kernels read it, NaN for none."""
        return math.nan if y is None else float(y)

    def _answer(self, x: Mapping[Hashable, Any]) -> NDArray[np.float32]:
        """Return the probabilities of a record without learning it."""
        raise NotImplementedError

    def stretches(
        self, batch: Batch, stops: Sequence[int], *, learn: bool = True
    ) -> Iterator[NDArray[np.float32]]:
        """Do what `progress`, or `predict`, does, and stop on the way; see `Estimator.stretches`.

        Nobody else is let in before the last stop.
        """
        with self._gate:
            yield from self._stretches(self._thinned(batch) if learn else batch, learn, stops)

    def _admitted(self, batch: Batch, learn: bool) -> NDArray[np.float32]:
        """Walk over a batch, letting others in now and then where there are some."""
        if learn:
            batch = self._thinned(batch)
        if not self.serving:
            with self._gate:
                return self._walk(batch, learn)
        answers = []
        for start in range(0, max(1, batch.n), PIECE):
            with self._gate:
                answers.append(self._walk(batch.rows(start, min(start + PIECE, batch.n)), learn))
        return np.concatenate(answers)

    def learn_many(self, X: Any, y: Any, w: Any = None) -> None:
        """Learn many records, as a loop of `learn_one` would, bit for bit.

        Parameters
        ----------
        X
            A column a field: an Arrow table or record batch, which is not copied, or any frame
            that narwhals wraps (pandas, polars, ...).
        y
            Labels, as for `learn_one`: a series, an array or a list.
        w
            Importances; None for 1 each.

        Raises
        ------
        ValueError
            Where X is no frame, y or w are not as many, or a label or weight is none.

        Examples
        --------
        >>> import pyarrow as pa
        >>> from onlinestack import LinearLearner
        >>> model = LinearLearner()
        >>> model.learn_many(pa.table({"site": ["news", "mail"] * 40}), [True, False] * 40)
        >>> model.predict_proba_many(pa.table({"site": ["news"]})).column_names
        ['False', 'True']
        """
        from onlinestack.frames import batch_of, first_values, series_of, table_of

        table = table_of(X)
        n = table.num_rows
        self._running()
        label = np.array([self._code(each) for each in series_of(y, n, "y")], np.float32)
        weight = np.ones(n, np.float32)
        if w is not None:
            weights = series_of(w, n, "w")
            for each in weights:
                check_weight(each)
            weight = np.array(weights, np.float32)
        encoder = self._encoding()
        if encoder.growing:
            with self._gate:
                self._meet(first_values(table))
        self._admitted(batch_of(table, encoder, label, weight), learn=True)

    def _probabilities(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of a click, or those of all classes, for each record."""
        from onlinestack.frames import batch_of, first_values, table_of

        table = table_of(X)
        n = table.num_rows
        self._running()
        encoder = self._encoding()
        if n and not encoder.knows(first_values(table)):
            # Fields not met yet are read as single records are, without learning them.
            return np.array([self._answer(x) for x in table.to_pylist()], np.float32)
        nothing = np.full(n, np.nan, np.float32)
        return self._admitted(
            batch_of(table, encoder, nothing, np.ones(n, np.float32)), learn=False
        )

    def _shares(self, p: NDArray[np.float32]) -> dict[Any, NDArray[np.float64]]:
        """Return what was predicted as a column of probabilities for each outcome."""
        click = p.astype(np.float64)
        return {False: 1.0 - click, True: click}

    def predict_proba_many(self, X: Any) -> Any:
        """Return for many records what `predict_proba_one` returns for one, as a frame.

        Parameters
        ----------
        X
            The records, as for `learn_many`.

        Returns
        -------
        A frame of the same kind, a column an outcome; where names must be texts, ``False`` and
        ``True`` are named so.
        """
        from onlinestack.frames import in_kind

        return in_kind(self._shares(self._probabilities(X)), X)

    def predict_many(self, X: Any) -> Any:
        """Return for many records what `predict_one` returns for one, as a series.

        Parameters
        ----------
        X
            The records, as for `learn_many`.
        """
        from onlinestack.frames import in_kind

        p = self._probabilities(X)
        shares = self._shares(p)
        names = list(shares)
        chosen = [None] * len(p)
        if names:
            best = np.argmax(np.array(list(shares.values())), axis=0)
            chosen = [names[k] for k in best]
        return in_kind(chosen, X)

    # Snapshots.

    def state(self) -> State:
        """Return everything needed to go on as if never stopped, as arrays and JSON."""
        late = None if self._late is None else self._late.attribution.state
        return _with_late(super().state(), late)

    def capture(self) -> Callable[[], State]:
        """Return what gives the state of this moment later, in any thread."""
        rest = super().capture()
        late = None if self._late is None else self._late.attribution.capture()
        return lambda: _with_late(rest(), late)

    def _beside(self) -> State:
        arrays, meta = super()._beside()
        return arrays, meta | {"unclicked": self._unclicked}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned; the learner must be started for the same schema."""
        super().restore(arrays, meta)
        self._late, self._unclicked = None, meta["unclicked"]
        if "late" in meta:
            own = {k.removeprefix("late/"): a for k, a in arrays.items() if k[:5] == "late/"}
            self._waiting().attribution.restore(own, meta["late"])


def _with_late(state: State, late: Callable[[], State] | None) -> State:
    """Return a state together with that of the pending records."""
    if late is None:
        return state
    arrays, meta = state
    own, told = late()
    return arrays | {f"late/{name}": array for name, array in own.items()}, meta | {"late": told}
