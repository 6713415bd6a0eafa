"""The stack as a public learner: a river classifier that also reads blocks."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river import base

from onlinestack.assembly import Assembly, assemble
from onlinestack.block import PREDICT_AND_LEARN_ONE, PREDICT_ONE, Block, Tape, immediate_tape
from onlinestack.engine import Engine, State
from onlinestack.estimator import Board, check_weight
from onlinestack.features.encoder import Encoder
from onlinestack.io.records import objects, records
from onlinestack.metrics import Scoreboard
from onlinestack.recipe import STACKERS, Linear, Newton, Recipe, combiners_of, entries_of
from onlinestack.serving import Serving
from onlinestack.tasks import CLICK, Task, check_target

if TYPE_CHECKING:
    from river.base.typing import ClfTarget

    from onlinestack.io.schema import Schema
    from onlinestack.io.source import Batch

__all__ = ["FINAL", "OnlineStacker"]

Tables = Sequence[Mapping[str, Any]]
FINAL = "mixture"
"""Name of the final prediction in the league table."""
ROOM = 2**16


class OnlineStacker(Serving, base.MiniBatchClassifier):
    """Online stacking: linear learners, retrained boosted trees and stackers, mixed online.

    Use it where clicks are to be predicted as well as possible and some ten thousand records a
    second are enough; `LinearLearner` is a hundred times faster. It needs no choice of learning
    rates or members: the mixture listens to those that were right, and is hardly ever worse than
    the best of them.

    Parameters
    ----------
    members
        What gives scores, as entries of the preset's TOML file; None takes the preset's own.
    stackers
        Learners over the members' scores; None takes the preset's own.
    bits
        Base-2 logarithm of the number of weights of linear learners that do not say.
    fields
        Fields that have click-rate statistics, the first in order of their names.
    tree_columns
        Most columns that trees read, about.
    half_lives
        Half-lives of the statistics, in labelled records; up to seven, in rising order.
    prior
        Records that the overall click rate counts for in each statistic.
    random_bits
        Random bits of numbers and statistics, for members that read them.
    micro_trees
        Tiny random trees over the hashed fields, for entries that read their leaves (``t``).
    share
        Share of the mixture's weights that is dealt out evenly at each label.
    largest_weight
        Weight of a record that moves the mixture's weights in full; others move them in
        proportion, larger ones no more.
    combiners
        Names of other ways to make one prediction of the experts', judged beside the mixture:
        "arithmetic", "majority", "weighted", "rank", "best", or "all"; None for none. They change
        no prediction.
    window_rows
        Labelled records that trees are trained on.
    window_bytes
        Memory these may take; wide records shorten the window.
    train_first
        Labelled records at which trees are trained first, and from then on after half as many
        again, until ``train_every``.
    train_every
        Labelled records between trainings at last; 5 % of all once that is more.
    train_lag
        Labelled records between the cut of a training and its service, at most.
    train_columns
        Columns that are binned for a training, those that pay most; 0 for all.
    train_threads
        Threads of a training; with ``serving`` one, so that predictions need not wait for them.
    max_bin
        Bins of a column in training.
    background
        Whether the stream goes on while trees are trained. The results are the same.
    seed
        Seed of all that is random.
    window, learn_at, correct_late, most_pending, negatives
        How late labels, and how many non-clicks, are learned, as in `LinearLearner`.
    names
        Whether names of features are kept, as in `LinearLearner`.

    Attributes
    ----------
    scoreboard
        Progressive metrics of the mixture, of every expert and of every combiner.

    Raises
    ------
    ValueError
        At first use, where a parameter is out of its range or entries do not go together.

    Examples
    --------
    >>> from onlinestack import OnlineStacker
    >>> model = OnlineStacker()
    >>> for clicked in (True, False, True) * 40:
    ...     model.learn_one({"site": "news" if clicked else "mail", "hour": 7}, clicked)
    >>> model.predict_proba_one({"site": "news", "hour": 7})[True] > 0.9
    True

    References
    ----------
    [^1]: van Veen, H., Nguyen Le, T. and Segnini, A. (2015). Kaggle Ensembling Guide.
    [^2]: Wolpert, D. H. (1992). Stacked generalization. Neural Networks 5.
    [^3]: Sill, J. et al. (2009). Feature-weighted linear stacking. arXiv:0911.0460.
    """

    def __init__(
        self,
        members: tuple[Mapping[str, Any], ...] | None = None,
        stackers: tuple[Mapping[str, Any], ...] | None = None,
        bits: int = 18,
        fields: int = 40,
        tree_columns: int = 300,
        half_lives: tuple[float, ...] = (2.0, 32.0, 256.0, 2048.0, 16384.0, math.inf),
        prior: float = 3.0,
        random_bits: int = 1024,
        micro_trees: int = 1024,
        share: float = 1e-4,
        largest_weight: float = 1.0,
        combiners: tuple[str, ...] | None = None,
        window_rows: int = 100_000,
        window_bytes: int = 2**29,
        train_first: int = 1000,
        train_every: int = 20_000,
        train_lag: int = 4096,
        train_columns: int = 64,
        train_threads: int = 2,
        max_bin: int = 64,
        background: bool = True,
        seed: int = 0,
        window: float | None = None,
        learn_at: str = "window",
        correct_late: float = 0.0,
        most_pending: int = 100_000,
        negatives: float = 1.0,
        names: bool = False,
    ) -> None:
        self.members = members
        self.stackers = stackers
        self.bits = bits
        self.fields = fields
        self.tree_columns = tree_columns
        self.half_lives = half_lives
        self.prior = prior
        self.random_bits = random_bits
        self.micro_trees = micro_trees
        self.share = share
        self.largest_weight = largest_weight
        self.combiners = combiners
        self.window_rows = window_rows
        self.window_bytes = window_bytes
        self.train_first = train_first
        self.train_every = train_every
        self.train_lag = train_lag
        self.train_columns = train_columns
        self.train_threads = train_threads
        self.max_bin = max_bin
        self.background = background
        self.seed = seed
        self.window = window
        self.learn_at = learn_at
        self.correct_late = correct_late
        self.most_pending = most_pending
        self.negatives = negatives
        self.names = names
        self._opened()
        self._stack: Assembly | None = None
        self._engine: Engine | None = None
        self._schema: dict[str, Any] | None = None
        self.scoreboard: Scoreboard | None = None
        self._given: NDArray[np.float32] = np.empty((0, 1), np.float32)

    # Building.

    def recipe(self) -> Recipe:
        """Return what the stack is made of, the preset's entries where none were given.

        Raises
        ------
        RecipeError
            Where entries are wrong or do not go together.
        """
        members, stackers = self._entries()
        return Recipe(
            tuple(entries_of(members, "member")),
            tuple(
                entry
                for entry in entries_of(stackers, "stacker", STACKERS)
                if isinstance(entry, Linear | Newton)
            ),
            bits=self.bits,
            fields=self.fields,
            columns=self.tree_columns,
            half_lives=self.half_lives,
            prior=self.prior,
            random_bits=self.random_bits,
            micro_trees=self.micro_trees,
            share=self.share,
            combiners=combiners_of(self.combiners or ()),
            # What non-clicks weigh that stand for others is told apart, too.
            largest_weight=self.largest_weight / self._negatives.share,
            window_rows=self.window_rows,
            window_bytes=self.window_bytes,
            train_first=self.train_first,
            train_every=self.train_every,
            train_lag=self.train_lag,
            train_columns=self.train_columns,
            train_threads=1 if self.serving else self.train_threads,
            max_bin=self.max_bin,
            background=self.background,
            seed=self.seed,
            names=self.names,
        )

    def _entries(self) -> tuple[Tables, Tables]:
        """Return members and stackers as tables, those of the preset where none were given."""
        members, stackers = self.members, self.stackers
        if members is None or stackers is None:
            path = Path(__file__).parent / "presets" / "stack.toml"
            preset = tomllib.loads(path.read_text(encoding="utf-8"))
            members = preset["member"] if members is None else members
            stackers = preset["stacker"] if stackers is None else stackers
        return members, stackers

    def start(self, schema: Schema | None = None) -> None:
        """Build the stack for records of a schema; without one, fields are met as they come.

        Parameters
        ----------
        schema
            The fields and their kinds; None for plain dicts.

        Raises
        ------
        ValueError
            Where a parameter is out of its range, or the schema's labels are no clicks.
        """
        check_target(CLICK, schema)
        self._schema = None if schema is None else schema.to_dict()
        self._stack = assemble(self.recipe(), None if schema is None else schema.fields)
        self._engine = self._stack.engine
        self._opened()
        self.scoreboard = self.new_board()

    def new_board(self, name: str = FINAL) -> Scoreboard:
        """Return a scoreboard of the mixture, experts and combiners without any scores.

        Parameters
        ----------
        name
            What to call the mixture on it.
        """
        stack = self._started()
        return Scoreboard([name, *stack.names], ["mixture", *stack.kinds])

    def _started(self) -> Assembly:
        if self._stack is None:
            self.start()
            return self._started()
        return self._stack

    @property
    def assembly(self) -> Assembly:
        """What it is put together of, for looking at."""
        return self._started()

    def _running(self) -> Engine:
        return self._started().engine

    @property
    def aim(self) -> Task:
        """The task: click."""
        return CLICK

    # Blocks.

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `served`."""
        return "label", "p"

    @property
    def room(self) -> int:
        """Most records to hand over at once, so that memory stays bounded."""
        return ROOM

    def admit(self, batch: Batch, *, learn: bool = True) -> Batch:
        """Return a batch as the learner can take it: as it is."""
        return batch

    def served(self, batch: Batch, p: NDArray[np.float32]) -> tuple[Any, ...]:
        """Return the columns of a file of predictions: label and click probability."""
        return batch.label, p

    def progress(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch, then learn it if it has a label, one after another.

        Parameters
        ----------
        batch
            Records as a source yields them.

        Returns
        -------
        ``float32[n]``: the mixture's click probabilities, each before its record was learned.
        """
        return self._admitted(batch, learn=True)

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        """Predict each record of a batch and learn nothing.

        Returns
        -------
        ``float32[n]``: the mixture's click probabilities.
        """
        return self._admitted(batch, learn=False)

    def prepare(self, batch: Batch) -> None:
        """Do with a batch what can be done ahead of its turn, in any thread; optional."""
        self._started().encoder.prepare(batch)

    def warm(self) -> None:
        """Load compiled code while there is nothing to learn yet; optional."""
        stack = self._started()
        stack.encoder.warm()
        nothing = stack.layout.lay(Block.of([]))
        tape = immediate_tape(nothing.label)
        stack.engine.run(nothing, tape)
        if self.scoreboard is not None:
            self.scoreboard.update(nothing, tape, nothing.p)

    def _stretches(
        self, batch: Batch, learn: bool, stops: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        stack, n = self._started(), len(batch.label)
        given = np.empty((n, len(stack.names) + 1), np.float32)

        def block_of(start: int, stop: int) -> Block:
            return stack.layout.lay(self._block(batch, start, stop, learn))

        begin, ends = 0, set(stops)
        for start, stop, block, tape in stack.engine.quanta(batch.label, block_of, learn, stops):
            given[start:stop] = block.p
            if self.scoreboard is not None:
                self.scoreboard.update(block, tape, given[start:stop])
            if stop in ends:
                self._given = given[begin:stop]
                yield np.ascontiguousarray(given[begin:stop, 0])
                begin = stop
        if not n:
            self._given = given
            yield np.ascontiguousarray(given[:, 0])

    def _block(self, batch: Batch, start: int, stop: int, learn: bool) -> Block:
        block = super()._block(batch, start, stop, learn)
        if self._started().records:
            fields = self._encoding().fields
            rows = [x for x, _, _ in records(batch.rows(start, stop), fields)]
            block.records = objects(rows)
        return block

    def _block_one(self, x: Mapping[Hashable, Any], y: Any, w: float) -> Block:
        block = super()._block_one(x, y, w)
        if self._started().records:
            block.records = objects([dict(x)])
        return block

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
        if isinstance(board, Scoreboard):
            board.update(block, tape, self._given)

    def check_saving(self) -> None:
        """Refuse, before a run that is to be saved begins, what can not be saved.

        Raises
        ------
        ValueError
            Where a member is a classifier of river.
        """
        for sentence in self._started().unsaved:
            raise ValueError(sentence)

    # Late labels.

    def _encoding(self) -> Encoder:
        return self._started().encoder

    def _meet(self, x: Mapping[Hashable, Any]) -> None:
        stack = self._started()
        if stack.encoder.meet(x):
            stack.meet()
            stack.engine.forget()

    def nothing(self) -> Block:
        """Return a block of no records."""
        block = super().nothing()
        block.records = objects([]) if self._started().records else None
        return block

    def lend(self) -> Block | None:
        """Return the laid block that single records are filled into; None while there is none."""
        return None if self._started().records else super().lend()

    def lay(self, block: Block) -> Block:
        """Return a block of hashed features with room for all that is made of them."""
        return self._started().layout.lay(block)

    def kept(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return the arrays of a block that learning reads, by name, a row a record."""
        arrays: dict[str, NDArray[Any]]
        arrays = {"table": block.table, "scores": block.scores, "bits": block.bits}
        for letter, (index, value) in block.dense.items():
            if letter != "s":  # these are the scores
                arrays[letter] = value
            if letter not in "cs":  # those of trees change with them
                arrays[f"{letter} index"] = index
        if block.records is not None:
            arrays["records"] = block.records
        return super().kept(block) | arrays

    def take(self, block: Block, tape: Tape) -> None:
        """Run the engine; ``block.p`` then holds what was predicted for the rows predicted."""
        self._started().engine.run(block, tape)

    # River's verbs.

    def _one(self, x: Mapping[Hashable, Any], y: Any, w: float, tape: Tape) -> float:
        stack = self._started()
        with self._gate:
            if tape.learns:
                self._meet(x)
            block = stack.layout.lay(self._block_one(x, y, w))
            stack.engine.run(block, tape, again=stack.encoder.again)
            if tape.learns and self.scoreboard is not None:
                self.scoreboard.update(block, tape, block.p)
            return float(block.p[0, 0])

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

        Raises
        ------
        ValueError
            Where w is not a weight.
        """
        check_weight(w)
        if w and not (w := self._weight(y, w)):
            return
        self._one(x, y, w, PREDICT_AND_LEARN_ONE)

    def _outcomes(self, x: Mapping[Hashable, Any]) -> dict[Any, float]:
        p = self._one(x, None, 1.0, PREDICT_ONE)
        return {False: 1.0 - p, True: p}

    def _answer(self, x: Mapping[Hashable, Any]) -> NDArray[np.float32]:
        return np.array(self._one(x, None, 1.0, PREDICT_ONE), np.float32)

    @property
    def _multiclass(self) -> bool:
        return False

    # What it is made of.

    def weights(self) -> dict[str, float]:
        """Return how much the mixture listens to each expert now; the sum is 1."""
        mixture = self._started().mixture
        return dict(zip(mixture.names, mixture.share.tolist(), strict=True))

    def events(self) -> list[dict[str, Any]]:
        """Return what became of each training since the last call, oldest first."""
        return self._started().events()

    def training(self) -> dict[str, int]:
        """Return the numbers of the generations in training now, by member."""
        return {part.name: part.number for part in self._started().trees if part.training}

    def gains(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return what trees in service gained from each field; see `Assembly.gains`."""
        return self._started().gains()

    def _beside(self) -> State:
        arrays, meta = super()._beside()
        # The entries themselves, since those of the preset may be others one day.
        members, stackers = self._entries()
        meta["params"] = {**meta["params"], "members": members, "stackers": stackers}
        return arrays, meta | {"layout": self._started().layout.state()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take back what `state` returned; the learner must be started for the same schema."""
        super().restore(arrays, meta)
        stack = self._started()
        stack.layout.restore(meta["layout"])
        if stack.encoder.growing and stack.encoder.fields:
            stack.meet()
