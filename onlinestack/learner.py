"""The public learners: river estimators that also read blocks, built from parts on one engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river import base

from onlinestack.block import PREDICT_AND_LEARN_ONE, PREDICT_ONE, Block, Tape, immediate_tape
from onlinestack.engine import Engine
from onlinestack.estimator import Board, Estimator, check_weight
from onlinestack.features.encoder import Encoder
from onlinestack.gate import Gate
from onlinestack.kernel import bound
from onlinestack.linear.classes import ClassMember, probabilities
from onlinestack.linear.interactions import normalise_interactions, reads_of
from onlinestack.linear.learner import LinearMember
from onlinestack.linear.losses import LINKS, LOSSES, Loss, click_all, link_all
from onlinestack.linear.pages import populate
from onlinestack.linear.rule import SHIFTS, UPDATES, Rule
from onlinestack.metrics import Scoreboard
from onlinestack.serving import Serving
from onlinestack.spare import laid_aside
from onlinestack.task_metrics import ClassBoard, NumberBoard
from onlinestack.tasks import CLICK, MULTICLASS, REGRESSION, Classes, Task, check_target, task_of
from onlinestack.words import nearest_or_all

if TYPE_CHECKING:
    from river.base.typing import RegTarget

    from onlinestack.io.schema import Schema
    from onlinestack.io.source import Batch

__all__ = ["LinearLearner", "LinearRegressor"]

REFINEMENTS = ("adaptive", "normalized", "invariant")
LEADERS = {"ftrl": (0.5, 1.0), "pistol": (1.0, 0.5), "coin": (4.0, 1.0)}
"""Updates that are no gradient descent, and their alpha and beta, as in Vowpal Wabbit 9."""
OWN_LINK = {"logistic": "logistic", "hinge": "logistic", "poisson": "poisson"}
"""Links that turn the score of a loss into a prediction of its task; the others need none."""
CELLS = 1 << 22
"""Class probabilities that are held at once."""


class _One:
    """What is predicted for a record that comes alone: arrays filled anew, and what fills them."""

    def __init__(self, classes: int | None) -> None:
        self.p = np.zeros(1 if classes is None else (1, classes), np.float32)
        self.scores, self.chosen = np.zeros_like(self.p), np.zeros(1, np.float32)
        self.link: Callable[[], object] | None = None
        """The kernel that turns scores into predictions, bound to both once it was needed."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"link": None}


class _Linear(Estimator):
    """A linear learner of any task; the arguments are those of `LinearLearner`."""

    bits: int
    task: str | None
    oaa: int | None
    loss: str | None
    learning_rate: float | None
    power_t: float
    initial_t: float | None
    alpha: float | None
    beta: float | None
    l1: float
    l2: float
    interactions: tuple[str, ...] | None
    update: str | None
    link: str | None
    constant: bool
    tau: float
    namespaces: str
    raw: bool
    seed: int
    names: bool

    def _reset(self) -> None:
        """Be as not yet started."""
        self._engine: Engine | None = None
        self._encoder: Encoder | None = None
        self._schema: dict[str, Any] | None = None
        self._aim: tuple[Task, str] = CLICK, "logistic"
        self.scoreboard: Board | None = None
        self.classes: Classes | None = None
        self.scores: NDArray[np.float32] = np.empty(0, np.float32)
        self.chosen: NDArray[np.float32] = np.empty(0, np.float32)

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
            Where a parameter is out of its range, or the schema's labels are of another task.
        """
        self._aim = task_of(self.task, self.loss, self.oaa)
        check_target(self._aim[0], schema)
        self.classes = None
        if self.oaa is not None:
            numbered = self.raw or (schema is not None and schema.target != "name")
            self.classes = Classes(self.oaa, numbered=numbered, text=schema is not None)
        member = self._member()
        self._schema = None if schema is None else schema.to_dict()
        self._encoder = Encoder(
            () if schema is None else schema.fields, seed=self.seed, names=self.names
        )
        self._engine = Engine({"encoder": self._encoder, "linear": member})
        self.scoreboard = None if self.raw else self.new_board()
        self._of_one, self._gate = _One(self.oaa), Gate()

    def new_board(self, name: str = "linear") -> Board:
        """Return a scoreboard of the learner's task without any scores.

        Parameters
        ----------
        name
            What to call the learner on it.
        """
        if self._aim[0] == REGRESSION:
            return NumberBoard(name, "member")
        if self.oaa is not None:
            return ClassBoard(name, "member", self.oaa)
        return Scoreboard([name], ["member"])

    def _member(self) -> LinearMember:
        task, loss = self._aim
        if self.link is not None:
            _check("link", self.link, LINKS)
            if task == MULTICLASS:
                raise ValueError(
                    f"link={self.link!r} has no use where oaa predicts classes: leave it out"
                )
        _within("bits", self.bits, 1, 32)
        for name in ("l1", "l2", "power_t"):
            _within(name, getattr(self, name), 0, math.inf)
        spread = 1
        if self.oaa is not None:
            _within("oaa", self.oaa, 2, 1 << min(self.bits, 16))
            spread = 1 << (self.oaa - 1).bit_length()
        letters = [term.encode() for term in self.interactions or ()]
        if any(len(term) < 2 for term in letters):
            raise ValueError(
                f"interactions={self.interactions!r} needs two namespaces or more in each entry; "
                'write ("ff",) for all pairs of fields'
            )
        rule, initial_t = self._rule(loss, task)
        reads = reads_of(
            self.namespaces.encode() or None,
            normalise_interactions(letters),
            constant=self.constant,
            spread=spread,
        )
        low, high = self._range(loss, task)
        options: dict[str, Any] = {
            "wildcards": tuple(letters),
            "initial_t": initial_t,
            "low": low,
            "high": high,
            "room": laid_aside(4 << (self.bits + int(rule.shift))),
        }
        if self.oaa is None or self.classes is None:
            return LinearMember(reads, rule, **options)
        met = len(self.classes.names)
        return ClassMember(reads, rule, classes=self.oaa, met=met, **options)

    def _range(self, loss: str, task: Task) -> tuple[float, float]:
        """Return the range that predictions are clamped to before any label."""
        if loss in ("logistic", "poisson") or (loss == "hinge" and not self.raw):
            return -50.0, 50.0
        if self.raw or task == REGRESSION:
            return 0.0, 0.0
        return (-1.0, 1.0) if task == MULTICLASS else (0.0, 1.0)

    def _rule(self, loss: str, task: Task) -> tuple[Rule, float]:
        """Return the update rule, and where its clock starts."""
        words = {word.strip() for word in (self.update or "").replace("+", ",").split(",") if word}
        for word in sorted(words):
            _check("update", word, [*REFINEMENTS, "sgd", *LEADERS])
        leader = next((word for word in LEADERS if word in words), None)
        if leader is not None and len(words) > 1:
            raise ValueError(f"update={self.update!r} is two things at once; give {leader} alone")
        self._check_steps(leader)
        chosen = words or set(REFINEMENTS)
        adaptive, normalized, invariant = (name in chosen for name in REFINEMENTS)
        rate, initial_t = self.learning_rate, self.initial_t
        if rate is None:
            rate = 0.5 if not words or leader or (adaptive and normalized) else 10.0
        _within("learning_rate", rate, 0, math.inf)
        eta = np.float32(rate)
        if initial_t is None:
            initial_t = 0.0 if adaptive or normalized or leader else 1.0
        if not adaptive and not normalized:
            eta = np.float32(eta * np.float32(math.pow(initial_t, self.power_t)))
        alpha, beta = LEADERS[leader or "ftrl"]
        code = UPDATES[leader or "gd"]
        minus = self.raw or task == MULTICLASS
        rule = Rule(
            update=code,
            loss=Loss(
                LOSSES[loss],
                np.float32(self.tau),
                np.float32(-1 if minus else 0),
                np.float32(1),
            ),
            adaptive=adaptive,
            normalized=normalized,
            invariant=invariant,
            eta=eta,
            power_t=np.float32(self.power_t),
            l1=float(np.float32(self.l1)),
            l2=float(np.float32(self.l2)),
            alpha=np.float32(alpha if self.alpha is None else self.alpha),
            beta=np.float32(beta if self.beta is None else self.beta),
            mask=np.uint64((1 << self.bits) - 1),
            shift=np.uint64(SHIFTS[code]),
            with_label=self.raw,
        )
        return rule, initial_t

    def _check_steps(self, leader: str | None) -> None:
        """Refuse settings of steps that the update has no use for."""
        if leader is None:
            for name in ("alpha", "beta"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} belongs to ftrl, pistol and coin; set "
                        "update to one of them, or set learning_rate"
                    )
            return
        for name in ("learning_rate", "initial_t"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} belongs to gradient descent; the steps of "
                    f"update={leader!r} are set by alpha and beta"
                )
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha={self.alpha!r} is out of range; give a number above 0")
        if self.beta is not None:
            _within("beta", self.beta, 0, math.inf)

    def _started(self) -> tuple[Engine, Encoder]:
        if self._engine is None or self._encoder is None:
            self.start()
            return self._started()
        return self._engine, self._encoder

    def _running(self) -> Engine:
        return self._started()[0]

    @property
    def aim(self) -> Task:
        """The task: click, regression or multiclass."""
        return task_of(self.task, self.loss, self.oaa)[0]

    # Blocks.

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `served`: label and prediction, and p where there is one."""
        if self._aim[0] == MULTICLASS:
            return "label", "prediction", "p"
        return "label", "prediction" if self._aim[0] == REGRESSION else "p"

    @property
    def room(self) -> int:
        """Most records to hand over at once, so that memory stays bounded."""
        return max(1, CELLS // (self.oaa or 1))

    def admit(self, batch: Batch, *, learn: bool = True) -> Batch:
        """Return a batch as the learner can take it: classes as codes, further ones rejected.

        Do this with every batch before `progress` where rejects are to be counted.

        Parameters
        ----------
        batch
            Records as a source yields them.
        learn
            Whether they are to be learned.
        """
        self._started()
        return batch if self.classes is None else self.classes.admit(batch, learn=learn)

    def served(self, batch: Batch, p: NDArray[np.float32]) -> tuple[Any, ...]:
        """Return the columns of a file of predictions: label and what was just predicted.

        Parameters
        ----------
        batch
            The records, admitted.
        p
            What `progress` or `predict` returned for them.

        Returns
        -------
        A column for each of `columns`: ``float32[n]``, or an Arrow array for names of classes.
        """
        if self.classes is None:
            return batch.label, p
        chosen = self.chosen.astype(np.int64)
        best = np.zeros(len(p), np.float32)
        some = np.flatnonzero(chosen)
        best[some] = p[some, chosen[some] - 1]
        if self.classes.numbered:
            number = np.where(chosen > 0, self.chosen, np.float32(np.nan))
            return batch.label, number, best
        codes = np.where(np.isnan(batch.label), 0, batch.label).astype(np.int64)
        return self.classes.texts(codes), self.classes.texts(chosen), best

    def progress(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch, then learn it if it has a label, one after another.

        Parameters
        ----------
        batch
            Records as a source yields them.

        Returns
        -------
        What was predicted for each record before it was learned: ``float32[n]``, the click
        probabilities or the numbers; ``float32[n, K]``, the probabilities of K classes, of which
        `chosen` has the codes.

        Raises
        ------
        ValueError
            Where a record is of a further class, and the batch did not pass through `admit`.
        """
        return self._admitted(batch, learn=True)

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch and learn nothing.

        Returns
        -------
        The predictions, as of `progress`.
        """
        return self._admitted(batch, learn=False)

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
        if self.oaa is not None:
            return
        nothing = Block.of([])
        tape = immediate_tape(nothing.label)
        member.run(nothing, tape)
        none = np.empty(0, np.float32)
        self._score(nothing, tape, none, none.copy(), none)
        if self.scoreboard is not None:
            self.scoreboard.whole(self.scoreboard.names[0])

    def _stretches(
        self, batch: Batch, learn: bool, stops: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        engine, encoder = self._started()
        n = len(batch.label)
        if self.classes is not None and learn:
            batch = self.admit(batch)
            if len(batch.label) < n:
                raise ValueError(f"{batch.rejects[-1].reason}; pass batches through admit first")
        out = np.empty(n if self.oaa is None else (n, self.oaa), np.float32)
        scores = np.empty_like(out)
        chosen = np.empty(n if self.oaa is not None else 0, np.float32)

        def block_of(start: int, stop: int) -> Block:
            return encoder.block(batch, start, stop, learn=learn)

        answer = chosen if self.raw and self.oaa is not None else out
        begin, ends = 0, set(stops)
        for start, stop, block, tape in engine.quanta(batch.label, block_of, learn, stops):
            self._score(block, tape, out[start:stop], scores[start:stop], chosen[start:stop])
            if stop in ends:
                self.scores, self.chosen = scores[begin:stop], chosen[begin:stop]
                yield answer[begin:stop]
                begin = stop
        if not n:
            self.scores, self.chosen = scores, chosen
            yield answer

    def linked(self) -> tuple[Any, Any, Any]:
        """Return prediction, scores and codes of the classes chosen of one record just scored."""
        member = self.parts["linear"]
        assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
        one = self._of_one
        self._link(member, one.p, one.scores, one.chosen)
        return one.p, one.scores, one.chosen

    def _score(
        self,
        block: Block,
        tape: Tape,
        out: NDArray[np.float32],
        scores: NDArray[np.float32],
        chosen: NDArray[np.float32],
    ) -> None:
        """Turn the scores of a quantum into predictions and keep the board."""
        engine, _ = self._started()
        member = engine.parts["linear"]
        assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
        self._link(member, out, scores, chosen)
        if self.scoreboard is not None and tape.learns:
            self._keep(self.scoreboard, block, tape, out, chosen)

    def _link(
        self,
        member: LinearMember,
        out: NDArray[np.float32],
        scores: NDArray[np.float32],
        chosen: NDArray[np.float32],
    ) -> None:
        """Turn the scores of the first rows into predictions."""
        scores[:] = member.score[: len(scores)]
        if isinstance(member, ClassMember):
            chosen[:] = member.chosen[: len(scores)]
        link, arguments = self._linking(scores, out)
        link(*arguments)

    def _linking(
        self, scores: NDArray[np.float32], out: NDArray[np.float32]
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the kernel that makes predictions of scores, and its arguments."""
        task, loss = self._aim
        if self.oaa is not None:
            return probabilities, (loss in ("logistic", "hinge"), scores, out)
        own = "identity" if self.raw else OWN_LINK.get(loss, "identity")
        number = self.raw or task == REGRESSION
        return link_all if number else click_all, (LINKS[self.link or own], scores, out)

    @staticmethod
    def _keep(
        board: Board,
        block: Block,
        tape: Tape,
        p: NDArray[np.float32],
        chosen: NDArray[np.float32],
    ) -> None:
        if isinstance(board, ClassBoard):
            board.update(block, tape, p, chosen)
        else:
            board.update(block, tape, p)

    def keep(self, board: Board, block: Block, tape: Tape, p: NDArray[np.float32]) -> None:
        """Score on another board what was predicted last.

        Parameters
        ----------
        board
            What `new_board` returned.
        block, tape
            Labels and weights of the records, and the steps to score.
        p
            What `predict` returned for them.
        """
        self._keep(board, block, tape, p, self.chosen)

    # River's verbs.

    def _one(self, x: Mapping[Hashable, Any], y: Any, w: float, tape: Tape) -> Any:
        """Take the steps for one record; return its prediction."""
        engine, encoder = self._started()
        with self._gate:
            block = encoder.refill(x, y, w)
            if block is None:
                if tape.learns and encoder.meet(x):
                    engine.forget()
                block = encoder.block_one(x, y, w)
            elif tape.learns:
                encoder.note(x)
            one = self._of_one
            if engine.run(block, tape, again=encoder.again):
                member: Any = engine.parts["linear"]
                one.scores[0] = member.score[0]
                if self.oaa is not None:
                    one.chosen[0] = member.chosen[0]
                if one.link is None:
                    link, arguments = self._linking(one.scores, one.p)
                    one.link = bound(link, *arguments)
                one.link()
            self.scores, self.chosen = one.scores, one.chosen
            if tape.learns and self.scoreboard is not None:
                self._keep(self.scoreboard, block, tape, one.p, one.chosen)
            return one.p[0] if self.oaa is None else one.p[0].copy()

    def learn_one(self, x: dict[Hashable, Any], y: Any, w: float = 1.0) -> None:
        """Learn one record: what a batch of it would do.

        Parameters
        ----------
        x
            The record: names to strings, booleans, numbers, lists of these, or None.
        y
            Whether it was clicked, its number, or its class.
        w
            Its importance, 0 or more.

        Raises
        ------
        ValueError
            Where y is not finite, or one class too many.
        """
        check_weight(w)
        self._learn_one(x, y, w)

    def _learn_one(self, x: Mapping[Hashable, Any], y: Any, w: float) -> None:
        self._started()
        if self.classes is not None:
            code = self.classes.code(y, learn=True)
            if code is None:
                raise ValueError(self.classes.reason(y))
            y = code
        elif self._aim[0] == REGRESSION and not np.isfinite(np.float32(y)):
            raise ValueError(f"y={y!r} is no label; give a finite number")
        self._one(x, y, w, PREDICT_AND_LEARN_ONE)


class LinearLearner(Serving, _Linear, base.MiniBatchClassifier):
    """One linear learner over hashed features that learns as Vowpal Wabbit does.

    Use it where the features say enough by themselves or in pairs, and speed counts most: it
    learns millions of records a second and adapts within seconds. It sees no structure beyond
    the interactions it is given.

    Parameters
    ----------
    bits
        Base-2 logarithm of the number of weights, 1 to 32. A weight takes 16 bytes.
    task
        ``click``: labels are clicks or none, predictions are probabilities. ``regression``: both
        are numbers; a prediction lies within 0 and the labels learned before. ``multiclass``:
        labels are classes. None: multiclass with ``oaa``, else what the loss says, click for
        logistic and hinge, regression for the others.
    oaa
        Number of classes, 2 or more, of which each has a weight vector of its own, taught one
        against all. Probabilities are the shares of what the classes predict by themselves.
    loss
        ``logistic``, ``squared``, ``hinge``, ``quantile``, ``poisson``, ``classic`` or
        ``expectile``; None is squared for regression, else logistic.
    learning_rate
        Step size of gradient descent; None is 0.5, or 10 where ``update`` leaves out adaptive or
        normalized.
    power_t
        Power of the decay of rates.
    initial_t
        Start of the clock that rates decay by; None is 0, or 1 without adaptive and normalized.
    alpha, beta
        Step sizes of ftrl, pistol and coin; None is Vowpal Wabbit's own: 0.5 and 1 for ftrl, 1 and
        0.5 for pistol, 4 and 1 for coin.
    l1, l2
        Regularisation for each record.
    interactions
        Tuples of namespaces to multiply on the fly: ``("ff",)`` is every pair of fields. None for
        none.
    update
        ``ftrl``, ``pistol`` or ``coin``; or which refinements of gradient descent are on, a
        selection of ``adaptive``, ``normalized`` and ``invariant`` with commas between, or
        ``sgd`` for none of them. None is gradient descent with all three. Pistol needs losses
        whose slope is bounded: logistic, hinge or quantile.
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
        and hinge, any number for the other losses, class numbers with ``oaa``; predictions
        without a link, clamped to the labels seen, the record's own among them, or class
        numbers. Otherwise predictions know nothing of the record's label.
    seed
        Seed of the sample that bin edges are drawn from.
    window
        Seconds of stream time that a click may come after a record that was predicted with an id;
        one without a click by then is learned as not clicked. None learns each label when it comes.
    learn_at
        ``window``: such clicks are learned when the window ends, as non-clicks are, so that what
        was learned by any time is unbiased. ``click``: they are learned when they come.
    correct_late
        Seconds behind the window in which a click still corrects what was learned: the record is
        learned once more, now as a click, with its weight times 1 / (1 - p), p as served and 0.9
        at most; see `onlinestack.labels.attribution`. 0 only counts such clicks.
    most_pending
        Most records that wait for their labels; the oldest makes room for one more, and is then
        predicted only. As many ids of learned records are remembered.
    negatives
        Share of the non-clicks that are learned, each with its weight divided by the share, so
        that probabilities stay true; the others are predicted only. Chosen by id where labels
        come later, else by number; see `onlinestack.labels.negatives`.

    Attributes
    ----------
    scoreboard
        Progressive metrics of the records learned so far.
    scores
        ``float32[n]`` or ``float32[n, K]``: the scores of the records last predicted, before the
        link.
    classes
        The classes met so far and their codes, where there are several.
    chosen
        ``float32[n]``: the codes of the classes last predicted, 0 for none.

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
    >>> model = LinearLearner(oaa=3)
    >>> for name in ("cat", "dog", "cow") * 40:
    ...     model.learn_one({"sound": name[1:]}, name)
    >>> model.predict_one({"sound": "ow"})
    'cow'

    References
    ----------
    [^1]: Langford, J., Li, L. and Strehl, A. (2007). Vowpal Wabbit.
    [^2]: Ross, S., Mineiro, P. and Langford, J. (2013). Normalized online learning. UAI.
    [^3]: McMahan, H. B. et al. (2013). Ad click prediction: a view from the trenches. KDD.
    [^4]: Orabona, F. and Tommasi, T. (2017). Training deep networks without learning rates
        through coin betting. NeurIPS.
    """

    def __init__(
        self,
        bits: int = 18,
        loss: str | None = None,
        learning_rate: float | None = None,
        power_t: float = 0.5,
        initial_t: float | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        interactions: tuple[str, ...] | None = None,
        update: str | None = None,
        link: str | None = None,
        constant: bool = True,
        tau: float = 0.5,
        namespaces: str = "",
        raw: bool = False,
        seed: int = 0,
        task: str | None = None,
        oaa: int | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        window: float | None = None,
        learn_at: str = "window",
        correct_late: float = 0.0,
        most_pending: int = 100_000,
        negatives: float = 1.0,
        names: bool = False,
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
        self.task = task
        self.oaa = oaa
        self.alpha = alpha
        self.beta = beta
        self.window = window
        self.learn_at = learn_at
        self.correct_late = correct_late
        self.most_pending = most_pending
        self.negatives = negatives
        self.names = names
        self._opened()
        self._reset()

    def start(self, schema: Schema | None = None) -> None:
        """Build the learner for records of a schema; without one, fields are met as they come."""
        super().start(schema)
        if self._negatives.share < 1 and (self._aim[0] != CLICK or self.raw):
            raise ValueError(
                f"negatives={self.negatives!r} thins non-clicks, but the learner is raw or "
                "predicts something else; leave negatives out"
            )
        self._opened()

    def learn_one(self, x: dict[Hashable, Any], y: Any, w: float = 1.0) -> None:
        """Learn one record: what a batch of it would do; see `LinearRegressor.learn_one`."""
        check_weight(w)
        if w and not (w := self._weight(y, w)):
            return
        self._learn_one(x, y, w)

    # Late labels.

    def _late_possible(self) -> None:
        if self._aim[0] != CLICK or self.raw:
            raise ValueError(
                "late labels are clicks, but the learner is raw or predicts something else; leave "
                "raw, task and oaa out"
            )

    def _encoding(self) -> Encoder:
        return self._started()[1]

    def _meet(self, x: Mapping[Hashable, Any]) -> None:
        engine, encoder = self._started()
        if encoder.meet(x):
            engine.forget()

    def lay(self, block: Block) -> Block:
        """Return a block with room for what is predicted."""
        block.p = np.zeros((block.n, 1), np.float32)
        return block

    def take(self, block: Block, tape: Tape) -> None:
        """Run the engine; ``block.p`` then holds what was predicted for the rows predicted."""
        engine, _ = self._started()
        engine.run(block, tape)
        member = engine.parts["linear"]
        assert isinstance(member, LinearMember)  # noqa: S101 - narrows a type
        out = np.empty(tape.predicted(), np.float32)
        self._link(member, out, np.empty_like(out), out)
        block.p[: len(out), 0] = out

    # River's verbs.

    def _outcomes(self, x: Mapping[Hashable, Any]) -> dict[Any, float]:
        p = self._one(x, None, 1.0, PREDICT_ONE)
        if self._aim[0] == REGRESSION:
            raise ValueError("task='regression' predicts numbers: call predict_one for them")
        if self.classes is None:
            p = float(p)
            return {False: 1.0 - p, True: p}
        names = self.classes.names
        given = p[: len(names)].astype(np.float64)
        total = float(given.sum())
        return {name: float(share) / total for name, share in zip(names, given, strict=True)}

    # Many records at once.

    def _code(self, y: Any) -> float:
        if self.classes is None:
            code = super()._code(y)
            if self._aim[0] == REGRESSION and math.isinf(code):
                raise ValueError(f"y={y!r} is no label; give a finite number")
            return code
        known = self.classes.code(y, learn=True)
        if known is None:
            raise ValueError(self.classes.reason(y))
        return known

    def _answer(self, x: Mapping[Hashable, Any]) -> NDArray[np.float32]:
        p: NDArray[np.float32] = np.array(self._one(x, None, 1.0, PREDICT_ONE))
        return p

    def _shares(self, p: NDArray[np.float32]) -> dict[Any, NDArray[np.float64]]:
        if self._aim[0] == REGRESSION:
            raise ValueError("task='regression' predicts numbers: call predict_many for them")
        if self.classes is None:
            return super()._shares(p)
        given = p[:, : len(self.classes.names)].astype(np.float64)
        given /= given.sum(axis=1, keepdims=True)
        return dict(zip(self.classes.names, given.T, strict=True))

    def predict_many(self, X: Any) -> Any:
        """Return for many records what `predict_one` returns for one, as a series.

        Parameters
        ----------
        X
            The records, as for `learn_many`.
        """
        self._started()
        if self._aim[0] != REGRESSION:
            return super().predict_many(X)
        from onlinestack.frames import in_kind

        return in_kind(self._probabilities(X).astype(np.float64), X)

    def predict_one(self, x: dict[Hashable, Any], **kwargs: Any) -> Any:
        """Return whether a click is to be expected, the most probable class, or the number.

        Parameters
        ----------
        x
            The record.
        """
        self._started()
        if self._aim[0] != REGRESSION:
            return super().predict_one(x, **kwargs)
        return float(self._one(x, None, 1.0, PREDICT_ONE))

    @property
    def _multiclass(self) -> bool:
        return self.oaa is not None


class LinearRegressor(_Linear, base.Regressor):
    """`LinearLearner` for numbers, as one of river's regressors.

    Use it where river is to know that numbers are predicted: in its pipelines, and with its own
    evaluation and metrics. What it learns and predicts is what `LinearLearner` does with
    ``task="regression"``. Steps are small beside labels far from 0; a higher learning rate gets
    there sooner.

    Parameters
    ----------
    loss
        ``squared``, ``quantile``, ``poisson``, ``classic`` or ``expectile``; None is squared.

    The others, and the attributes, are those of `LinearLearner`.

    Raises
    ------
    ValueError
        At first use, where a parameter is out of its range.

    Examples
    --------
    >>> from onlinestack import LinearRegressor
    >>> model = LinearRegressor(learning_rate=10)
    >>> for minutes in (10, 20, 30) * 40:
    ...     model.learn_one({"carrier": f"c{minutes}"}, minutes)
    >>> round(model.predict_one({"carrier": "c20"}))
    20
    """

    task = REGRESSION
    oaa = None
    raw = False

    def __init__(
        self,
        bits: int = 18,
        loss: str | None = None,
        learning_rate: float | None = None,
        power_t: float = 0.5,
        initial_t: float | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        interactions: tuple[str, ...] | None = None,
        update: str | None = None,
        link: str | None = None,
        constant: bool = True,
        tau: float = 0.5,
        namespaces: str = "",
        seed: int = 0,
        alpha: float | None = None,
        beta: float | None = None,
        names: bool = False,
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
        self.seed = seed
        self.alpha = alpha
        self.beta = beta
        self.names = names
        self._reset()

    def predict_one(self, x: dict[Hashable, Any], **kwargs: Any) -> RegTarget:
        """Return the number expected.

        Parameters
        ----------
        x
            The record.
        """
        return float(self._one(x, None, 1.0, PREDICT_ONE))


def _check(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown{nearest_or_all(value, known)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range; give a number from {low} to {high}")
