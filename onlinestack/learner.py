"""The public learners: river classifiers that also read blocks, built from parts on one engine."""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river import base

from onlinestack import snapshot
from onlinestack.block import LEARN, PREDICT, Block, Tape, immediate_tape
from onlinestack.engine import Engine, State
from onlinestack.features.encoder import Encoder
from onlinestack.linear.interactions import normalise_interactions, reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.losses import LINKS, LOSSES, Loss, link_all
from onlinestack.linear.rule import Rule
from onlinestack.metrics import Scoreboard
from onlinestack.spare import populate

if TYPE_CHECKING:
    from river.base.typing import ClfTarget

    from onlinestack.io.schema import Schema
    from onlinestack.io.source import Batch

__all__ = ["LinearLearner", "load", "save"]

REFINEMENTS = ("adaptive", "normalized", "invariant")
OWN_LINK = {"logistic": "logistic", "hinge": "logistic", "poisson": "poisson"}
"""Links that turn the score of a loss into a click probability; the others need none."""
MARGIN = np.float32(13.815511)
"""Margins are clipped to this: a probability of 1e-6, or of all but 1e-6."""


class LinearLearner(base.Classifier):
    """One linear learner over hashed features that learns as Vowpal Wabbit does.

    Use it where the features say enough by themselves or in pairs, and speed counts most: it
    learns millions of records a second and adapts within seconds. It sees no structure beyond
    the interactions it is given.

    Parameters
    ----------
    bits
        Base-2 logarithm of the number of weights, 1 to 32. A weight takes 16 bytes.
    loss
        ``logistic``, ``squared``, ``hinge``, ``quantile``, ``poisson``, ``classic`` or
        ``expectile``.
    learning_rate
        Step size; None is 0.5, or 10 where ``update`` leaves out adaptive or normalized.
    power_t
        Power of the decay of rates.
    initial_t
        Start of the clock that rates decay by; None is 0, or 1 without adaptive and normalized.
    l1, l2
        Regularisation for each record.
    interactions
        Tuples of namespaces to multiply on the fly: ``("ff",)`` is every pair of fields.
    update
        Which refinements of gradient descent are on, a selection of ``adaptive``,
        ``normalized`` and ``invariant`` with commas between, or ``sgd`` for none of them.
    link
        What turns a score into a prediction; None fits the loss.
    constant
        Whether there is a weight that every record shares (the bias).
    tau
        Quantile of the quantile loss, or q of the expectile loss.
    namespaces
        Letters of the namespaces read by themselves; empty reads all.
    raw
        Whether labels and predictions are those of Vowpal Wabbit: labels -1 and 1 for logistic
        and hinge, any number for the other losses; predictions without a link, clamped to the
        labels seen, the record's own among them. Otherwise labels are 0 and 1 and predictions
        are click probabilities that know nothing of the record's label.
    seed
        Seed of the sample that bin edges are drawn from.

    Attributes
    ----------
    scoreboard
        Progressive metrics of the records learned so far.
    scores
        ``float32[n]``: the scores of the records last predicted, before the link.

    Raises
    ------
    ValueError
        At first use, where a parameter is out of its range.

    Examples
    --------
    >>> from onlinestack import LinearLearner
    >>> model = LinearLearner()
    >>> for clicked in (True, False, True) * 40:
    ...     model.learn_one({"site": "news" if clicked else "mail", "hour": 7}, clicked)
    >>> round(model.predict_proba_one({"site": "news", "hour": 7})[True], 2)
    0.94

    References
    ----------
    [^1]: Langford, J., Li, L. and Strehl, A. (2007). Vowpal Wabbit.
    [^2]: Ross, S., Mineiro, P. and Langford, J. (2013). Normalized online learning. UAI.
    """

    def __init__(
        self,
        bits: int = 18,
        loss: str = "logistic",
        learning_rate: float | None = None,
        power_t: float = 0.5,
        initial_t: float | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        interactions: tuple[str, ...] = (),
        update: str | None = None,
        link: str | None = None,
        constant: bool = True,
        tau: float = 0.5,
        namespaces: str = "",
        raw: bool = False,
        seed: int = 0,
    ) -> None:
        self.bits = bits
        self.loss = loss
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.initial_t = initial_t
        self.l1 = l1
        self.l2 = l2
        self.interactions = interactions
        self.update = update
        self.link = link
        self.constant = constant
        self.tau = tau
        self.namespaces = namespaces
        self.raw = raw
        self.seed = seed
        self._engine: Engine | None = None
        self._encoder: Encoder | None = None
        self._schema: dict[str, Any] | None = None
        self.scoreboard: Scoreboard | None = None
        self.scores: NDArray[np.float32] = np.empty(0, np.float32)

    @property
    def params(self) -> dict[str, Any]:
        """Return the arguments the learner was made with."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments the learner was made with, as scikit-learn's ``clone`` asks."""
        return self.params

    @property
    def learned(self) -> int:
        """Count of labelled records learned."""
        return 0 if self._engine is None else self._engine.learned

    # Building.

    def start(self, schema: Schema | None = None) -> None:
        """Build the learner for records of a schema; without one, fields are met as they come.

        Parameters
        ----------
        schema
            The fields and their kinds; None for plain dicts and for Vowpal Wabbit text.

        Raises
        ------
        ValueError
            Where a parameter is out of its range.
        """
        member = self._member()
        self._schema = None if schema is None else schema.to_dict()
        self._encoder = Encoder(() if schema is None else schema.fields, seed=self.seed)
        self._engine = Engine({"encoder": self._encoder, "linear": member})
        self.scoreboard = None if self.raw else Scoreboard(["linear"], ["member"])

    def _member(self) -> LinearMember:
        _check("loss", self.loss, LOSSES)
        if self.link is not None:
            _check("link", self.link, LINKS)
        _within("bits", self.bits, 1, 32)
        for name in ("l1", "l2", "power_t"):
            _within(name, getattr(self, name), 0, math.inf)
        chosen = set(REFINEMENTS)
        if self.update:
            chosen = {word.strip() for word in self.update.replace("+", ",").split(",")}
            for word in sorted(chosen):
                _check("update", word, [*REFINEMENTS, "sgd"])
        adaptive, normalized, invariant = (name in chosen for name in REFINEMENTS)
        rate, initial_t = self.learning_rate, self.initial_t
        if rate is None:
            rate = 0.5 if not self.update or (adaptive and normalized) else 10.0
        _within("learning_rate", rate, 0, math.inf)
        eta = np.float32(rate)
        if initial_t is None:
            initial_t = 0.0 if adaptive or normalized else 1.0
        if not adaptive and not normalized:
            eta = np.float32(eta * np.float32(math.pow(initial_t, self.power_t)))
        letters = [term.encode() for term in self.interactions]
        if any(len(term) < 2 for term in letters):
            raise ValueError(
                f"interactions={self.interactions!r} needs two namespaces or more in each entry; "
                'write ("ff",) for all pairs of fields'
            )
        margins = self.loss in ("logistic", "poisson")
        low, high = (-50.0, 50.0) if margins else (0.0, 0.0) if self.raw else (0.0, 1.0)
        if self.loss == "hinge" and not self.raw:
            low, high = -50.0, 50.0
        rule = Rule(
            loss=Loss(
                LOSSES[self.loss],
                np.float32(self.tau),
                np.float32(-1 if self.raw else 0),
                np.float32(1),
            ),
            adaptive=adaptive,
            normalized=normalized,
            invariant=invariant,
            eta=eta,
            power_t=np.float32(self.power_t),
            l1=float(np.float32(self.l1)),
            l2=float(np.float32(self.l2)),
            mask=np.uint64((1 << self.bits) - 1),
            with_label=self.raw,
        )
        reads = reads_of(
            self.namespaces.encode() or None,
            normalise_interactions(letters),
            constant=self.constant,
        )
        return LinearMember(
            reads, rule, wildcards=tuple(letters), initial_t=initial_t, low=low, high=high
        )

    def _started(self) -> tuple[Engine, Encoder]:
        if self._engine is None or self._encoder is None:
            self.start()
            return self._started()
        return self._engine, self._encoder

    # Blocks.

    def progress(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch, then learn it if it has a label, one after another.

        Parameters
        ----------
        batch
            Records as a source yields them.

        Returns
        -------
        ``float32[n]``: what was predicted for each record before it was learned.
        """
        return self._walk(batch, learn=True)

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch and learn nothing.

        Returns
        -------
        ``float32[n]``: the predictions.
        """
        return self._walk(batch, learn=False)

    def prepare(self, batch: Batch) -> None:
        """Do with a batch what can be done ahead of its turn, in any thread; optional."""
        self._started()[1].prepare(batch)

    def warm(self) -> None:
        """Load compiled code and touch memory while there is nothing to learn yet; optional."""
        engine, encoder = self._started()
        member = engine.parts["linear"]
        assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
        populate(member.weights)
        encoder.warm()
        nothing = Block.of([])
        tape = immediate_tape(nothing.label)
        member.run(nothing, tape)
        self._score(nothing, tape, np.empty(0, np.float32), np.empty(0, np.float32))
        if self.scoreboard is not None:
            self.scoreboard.whole("linear")

    def _walk(self, batch: Batch, learn: bool) -> NDArray[np.float32]:
        engine, encoder = self._started()
        out = np.empty(len(batch.label), np.float32)
        scores = np.empty(len(batch.label), np.float32)

        def block_of(start: int, stop: int) -> Block:
            return encoder.block(batch, start, stop)

        for start, stop, block, tape in engine.quanta(batch.label, block_of, learn):
            engine.run(block, tape)
            self._score(block, tape, out[start:stop], scores[start:stop])
        self.scores = scores
        return out

    def _score(
        self, block: Block, tape: Tape, out: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> None:
        """Turn the scores of a quantum into predictions and keep the board."""
        engine, _ = self._started()
        member = engine.parts["linear"]
        assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
        scores[:] = member.score[: block.n]
        own = "identity" if self.raw else OWN_LINK.get(self.loss, "identity")
        code = LINKS[self.link or own]
        if self.raw:
            link_all(code, scores, out)
        else:
            np.clip(scores, -MARGIN, MARGIN, out=scores)
            link_all(code, scores, out)
            np.clip(out, np.float32(1e-6), np.float32(1 - 1e-6), out=out)
        if self.scoreboard is not None:
            self.scoreboard.update(block, tape, out[:, None])

    # River's verbs.

    def _one(self, x: Mapping[Hashable, Any], y: Any, w: float, op: list[int]) -> float:
        engine, encoder = self._started()
        if LEARN in op:
            encoder.meet(x)
        block = Block(
            np.array([np.nan if y is None else y], np.float32),
            np.array([w], np.float32),
            np.zeros(1, np.float32),
            np.zeros(1, np.int64),
            *encoder.encode_one(x),
        )
        tape = Tape(np.array(op, np.uint8), np.zeros(len(op), np.int32))
        p, scores = np.empty(1, np.float32), np.empty(1, np.float32)
        engine.run_one(block, tape)
        self._score(block, tape, p, scores)
        self.scores = scores
        return float(p[0])

    def learn_one(self, x: dict[Hashable, Any], y: ClfTarget, w: float = 1.0) -> None:
        """Learn one record: what a batch of it would do.

        Parameters
        ----------
        x
            The record: names to strings, booleans, numbers, lists of these, or None.
        y
            Whether it was clicked.
        w
            Its importance, 0 or more.
        """
        if not w >= 0 or math.isinf(w):
            raise ValueError(f"w={w!r} is not a weight; give a finite number, 0 or more")
        self._one(x, y, w, [PREDICT, LEARN])

    def predict_proba_one(self, x: dict[Hashable, Any], **kwargs: Any) -> dict[ClfTarget, float]:
        """Return the probabilities of no click and of a click.

        Parameters
        ----------
        x
            The record.
        """
        p = self._one(x, None, 1.0, [PREDICT])
        return {False: 1.0 - p, True: p}

    @property
    def _multiclass(self) -> bool:
        return False

    # State.

    def state(self) -> State:
        """Return everything needed to go on as if never stopped, as arrays and JSON."""
        engine, _ = self._started()
        arrays, meta = engine.state()
        arrays = {f"engine/{name}": array for name, array in arrays.items()}
        meta = {
            "kind": type(self).__name__,
            "params": self.params,
            "schema": self._schema,
            "engine": meta,
        }
        if self.scoreboard is not None:
            own, meta["scoreboard"] = self.scoreboard.state()
            arrays.update({f"scoreboard/{name}": array for name, array in own.items()})
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned; the learner must be started for the same schema."""

        def of(part: str) -> dict[str, NDArray[Any]]:
            prefix = f"{part}/"
            return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

        engine, _ = self._started()
        engine.restore(of("engine"), meta["engine"])
        if self.scoreboard is not None:
            self.scoreboard.restore(of("scoreboard"), meta["scoreboard"])


def _check(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; give one of {', '.join(known)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range; give a number from {low} to {high}")


def save(model: LinearLearner, path: str | Path) -> None:
    """Save a learner to one file, whole or not at all.

    Parameters
    ----------
    model
        The learner.
    path
        Where to.

    Raises
    ------
    OSError
        Where the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from onlinestack import LinearLearner, load, save
    >>> model = LinearLearner()
    >>> model.learn_one({"site": "news"}, True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/model")
    ...     again = load(f"{folder}/model")
    >>> again.predict_proba_one({"site": "news"}) == model.predict_proba_one({"site": "news"})
    True
    """
    arrays, meta = model.state()
    snapshot.save(path, arrays, {"learner": meta})


def load(path: str | Path) -> LinearLearner:
    """Load a learner that `save` or a run of the command line saved.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SnapshotError
        Where the file is missing, damaged or not one of ours.
    """
    from onlinestack.io.schema import Schema

    arrays, meta = snapshot.load(path)
    learner = meta.get("learner", {})
    if learner.get("kind") != LinearLearner.__name__:
        raise snapshot.SnapshotError(f"{path} holds no linear learner; give a file saved by `save`")
    params: dict[str, Any] = dict(learner["params"])
    params["interactions"] = tuple(params["interactions"])
    model = LinearLearner(**params)
    model.start(None if learner["schema"] is None else Schema.from_dict(learner["schema"]))
    model.restore(arrays, learner)
    return model
