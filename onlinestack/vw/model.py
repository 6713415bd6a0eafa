"""The learner that a command line asks for: its rule, its weights, its books, its snapshot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.kernel import pow32
from onlinestack.linear.interactions import (
    CONSTANT,
    Reads,
    expand_wildcards,
    normalise_interactions,
    reads_of,
    term_table,
)
from onlinestack.linear.learner import LinearMember, Scratch
from onlinestack.linear.losses import LINKS, LOSSES, Loss
from onlinestack.linear.reductions import (
    ADDS,
    BOOKS,
    DUMP,
    FIRST,
    HELD_LOG_LOSS,
    INDEXING,
    LOG_LOSS,
    MORE,
    SECOND,
    STEP,
    Outcome,
    Plan,
    T,
    follow,
)
from onlinestack.linear.rule import (
    GAMMA,
    GD,
    HIGH,
    KAPPA,
    KEPT,
    LOW,
    SHIFTS,
    UPDATES,
    Rule,
)
from onlinestack.snapshot import SnapshotError, load, save
from onlinestack.vw.options import OptionError, Options

__all__ = ["Model", "letters"]

KIND = "vw"
_OF_LEARNING = ("learning_rate", "power_t", "sgd", "adaptive", "normalized", "invariant")


def letters(parts: list[str]) -> bytes:
    r"""Return the letters that options name; ``\xHH`` is the byte of that number.

    Examples
    --------
    >>> letters(["ab", "\\x20"])
    b'ab '
    """
    out = bytearray()
    for part in parts:
        text = part.encode(errors="surrogateescape")
        at = 0
        while at < len(text):
            if text[at : at + 2] == b"\\x" and len(text) >= at + 4:
                try:
                    out.append(int(text[at + 2 : at + 4], 16))
                    at += 4
                    continue
                except ValueError:
                    pass
            out.append(text[at])
            at += 1
    return bytes(out)


def _terms(options: Options) -> list[bytes]:
    """Return the interactions asked for, in the order of their options."""
    terms = []
    for name, size in (("quadratic", 2), ("cubic", 3), ("interactions", 0)):
        for text in options[name]:
            term = letters([text])
            if (size and len(term) != size) or len(term) < 2:
                wanted = f"{size} letters" if size else "two letters or more"
                raise OptionError(f"--{name} is {text!r}: give {wanted}, one a namespace")
            terms.append(term)
    return terms


def _rule(options: Options) -> Rule:
    """Return the update rule of a command line."""
    code = LOSSES[options["loss_function"]]
    tau = options["quantile_tau"]
    low, high = np.float32(-1), np.float32(1)
    if options["loss_function"] == "expectile":
        tau = options["expectile_q"]
        if tau is None or not 0 < tau <= 0.5:
            raise OptionError("--expectile_q must be above 0 and at most 0.5: give it")
    if options["loss_function"] == "logistic":
        low, high = np.float32(options["logistic_min"]), np.float32(options["logistic_max"])
    families = [name for name in ("ftrl", "pistol", "coin") if options[name]]
    if len(families) > 1:
        raise OptionError(f"--{families[0]} and --{families[1]} exclude each other: give one")
    update = UPDATES[families[0] if families else "gd"]
    flags = ("adaptive", "normalized", "invariant")
    given = [options[flag] for flag in flags]
    subset = options["sgd"] or any(given)
    training = not options["testonly"]
    on = given if subset else [True, True, True]
    adaptive, normalized = on[0], on[1]
    eta = np.float32(options["learning_rate"])
    if update == GD and subset and "learning_rate" not in options and not (adaptive and normalized):
        eta = np.float32(10)
    defaults = {"ftrl": (0.5, 1), "pistol": (1, 0.5), "coin": (4, 1)}
    alpha, beta = defaults[families[0] if families else "ftrl"]
    bounded = "min_prediction" in options or "max_prediction" in options
    bits = options["bit_precision"]
    if not 1 <= bits <= 31:
        raise OptionError(f"--bit_precision (-b) is {bits}: give 1 to 31")
    return Rule(
        update=update,
        loss=Loss(code, np.float32(tau), low, high),
        adaptive=bool(adaptive),
        normalized=bool(normalized),
        invariant=bool(on[2]),
        eta=eta,
        power_t=np.float32(options["power_t"]),
        l1=float(options["l1"]),
        l2=float(options["l2"]),
        alpha=np.float32(options["ftrl_alpha"] if "ftrl_alpha" in options else alpha),
        beta=np.float32(options["ftrl_beta"] if "ftrl_beta" in options else beta),
        mask=np.uint64((1 << bits) - 1),
        shift=np.uint64(SHIFTS[update]),
        track=not bounded and training,
        sparse_l2=np.float32(options["sparse_l2"]),
    )


def _reads(options: Options, spread: int) -> Reads:
    """Return what a command line reads of a record."""
    terms = normalise_interactions(
        _terms(options), leave_duplicates=options["leave_duplicate_interactions"]
    )
    return reads_of(
        None,
        [] if any(b":" in term for term in terms) else terms,
        # What is to be kept is kept, also where it is to be ignored.
        ignore=b"" if options["keep"] else letters(options["ignore"]),
        keep=letters(options["keep"]) if options["keep"] else None,
        ignore_linear=letters(options["ignore_linear"]),
        permutations=options["permutations"],
        constant=not options["noconstant"],
        spread=spread,
    )


class Model:
    """Everything that learns: weights and state, and the books that are kept of a run.

    Parameters
    ----------
    options
        The command line, with the options of a loaded model.

    Raises
    ------
    OptionError
        Where options do not fit together.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rule = _rule(options)
        classes, rounds = options["oaa"] or 0, options["bootstrap"] or 0
        for name, count in (("oaa", classes), ("bootstrap", rounds)):
            if name in options and count < 1:
                raise OptionError(f"--{name} is {count}: give 1 or more")
        vectors = max(1, classes) * max(1, rounds)
        spread = 1 << (vectors - 1).bit_length()
        self.reads = _reads(options, spread)
        probabilities = bool(classes and options["probabilities"])
        self.plan = Plan(
            classes=classes,
            rounds=rounds,
            vote=options["bs_type"] == "vote",
            test=bool(options["testonly"]),
            scores=bool(options["scores"] or options["probabilities"]),
            probabilities=probabilities,
            quiet=bool(options["quiet"]),
            link=LINKS["identity" if probabilities else options["link"]],
        )
        self.terms = _terms(options)
        self._wild = any(b":" in term for term in self.terms)
        self._seen: set[int] = set()
        initial_t = options["initial_t"] or 0.0
        plain = self.rule.update == GD and not self.rule.adaptive and not self.rule.normalized
        if plain and "initial_t" not in options:
            initial_t = 1.0
        if plain:
            power = pow32(np.float32(initial_t), self.rule.power_t)
            self.rule = self.rule._replace(eta=np.float32(self.rule.eta * power))
        if self.plan.test:
            # The slots' state of learning is neither used nor shown.
            self.rule = self.rule._replace(adaptive=False, normalized=False)
        self.initial_t = initial_t
        low, high = self._range()
        constant = options["constant"]
        self.member = LinearMember(
            self.reads,
            self.rule,
            initial_t=initial_t,
            initial_weight=options["initial_weight"],
            low=low,
            high=high,
        )
        if constant and self.rule.update == GD:
            # Vowpal Wabbit does not spread this slot over its weight vectors.
            self.table()[CONSTANT & int(self.rule.mask), 0] = constant
        if "initial_t" not in options or self.rule.update != GD:
            self.member.norms[:, :2] = 0.0
        self.shared[GAMMA], self.shared[KAPPA] = options["l1_state"], options["l2_state"]
        self.books = np.zeros(BOOKS)
        self.books[T] = initial_t
        self.books[[FIRST, SECOND]] = np.nan
        self.books[INDEXING] = options["indexing"] if "indexing" in options else -1
        self._set_pace()
        self.draw = np.array([options["random_seed"] & (2**64 - 1)], np.uint64)
        self.passes = 0
        self._out = Outcome.of(0, self.plan)
        self._scratch = Scratch.of(256, self.reads.terms.shape[1])

    @property
    def weights(self) -> NDArray[np.float32]:
        """Numbers of all slots, slot after slot."""
        return self.member.weights

    @property
    def shared(self) -> NDArray[np.float64]:
        """The state all weight vectors share."""
        return self.member.shared

    @property
    def norms(self) -> NDArray[np.float64]:
        """The state of each weight vector."""
        return self.member.norms

    def _range(self) -> tuple[float, float]:
        low, high = self.options["min_prediction"], self.options["max_prediction"]
        if low is not None or high is not None:
            return low or 0.0, high or 0.0
        if self.rule.track and self.options["loss_function"] in ("logistic", "poisson"):
            return -50.0, 50.0
        return 0.0, 0.0

    def _set_pace(self) -> None:
        """Set when reports are due."""
        text = None if self.options["quiet"] else self.options["progress"]
        self.books[[DUMP, ADDS, STEP]] = 1.0, 0.0, 2.0
        if text is None:
            return
        try:
            step = float(np.float32(text))
        except ValueError:
            raise OptionError(f"--progress (-P) is {text!r}: give a number") from None
        if "." in text:
            self.books[[DUMP, STEP]] = 1.0, step if step > 1 else np.float32(step + 1)
        else:
            step = float(max(1, int(step)))
            self.books[[DUMP, ADDS, STEP]] = step, 1.0, step

    def run(self, block: Block, held: NDArray[np.uint8], reports_held: bool) -> tuple[Outcome, int]:
        """Take records in order; return what came of them, and how many reports are due."""
        self.look(block)
        n = block.n
        if len(self._out.prediction) < n:
            self._out = Outcome.of(n, self.plan)
        self._scratch = self._scratch.fit(block, self.reads)
        reports = follow(
            block.label,
            block.weight,
            block.initial,
            held,
            block.index,
            block.value,
            block.names,
            block.start,
            block.stop,
            self.reads,
            self.weights,
            self.shared,
            self.norms,
            self.rule,
            self.plan._replace(reports_held=reports_held),
            self._scratch,
            self.draw,
            self.books,
            self._out,
        )
        return self._out, reports

    def look(self, block: Block) -> None:
        """Spell out wildcards over the namespaces seen so far, those of the block included."""
        if not self._wild:
            return
        found = set(np.unique(block.names).tolist()) - {0}
        found = {letter for letter in found if self.reads.used[letter]}
        if not found <= self._seen:
            self._seen |= found
            terms = expand_wildcards(
                self.terms,
                self._seen,
                leave_duplicates=self.options["leave_duplicate_interactions"],
            )
            self.reads = self.reads._replace(terms=term_table(terms))

    def kept(self) -> dict[str, Any]:
        """Return the options that travel, the state of the random numbers among them."""
        kept = self.options.kept()
        if self.options["predict_only_model"]:
            kept = {name: value for name, value in kept.items() if name not in _OF_LEARNING}
        if self.plan.probabilities and "link" in kept:
            kept["link"] = "identity"
        if int(self.draw[0]):
            kept["random_seed"] = int(self.draw[0])
        return kept

    @property
    def state_columns(self) -> list[int]:
        """Places in a slot that are state, in the order of text dumps."""
        if self.rule.update != GD:
            return list(range(KEPT[self.rule.update]))
        return [0, *([1] if self.rule.adaptive else []), *([2] if self.rule.normalized else [])]

    def table(self) -> NDArray[np.float32]:
        """Return the numbers of all slots, a row each."""
        return self.weights.reshape(-1, 1 << int(self.rule.shift))

    def save(self, path: str) -> None:
        """Save the model as one of our snapshots."""
        table = self.table()
        whole = not self.options["predict_only_model"]
        columns = list(range(KEPT[self.rule.update])) if whole else [0]
        used = np.flatnonzero(table[:, columns].any(axis=1))
        arrays: dict[str, NDArray[Any]] = {
            "slot": used.astype(np.uint32),
            "weight": np.ascontiguousarray(table[used][:, columns]),
            "shared": self.shared,
            "norms": self.norms if self.options["per_model_save_load"] else self.norms[:1],
            "books": self.books,
        }
        meta = {
            "kind": KIND,
            "bits": self.options["bit_precision"],
            "options": self.kept(),
            "whole": whole,
            "initial_t": self.initial_t,
            "passes": self.passes,
        }
        save(path, arrays, meta)

    @staticmethod
    def open(path: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and the header of a saved model.

        Raises
        ------
        SnapshotError
            Where the file is no model of ours.
        """
        arrays, meta = load(path)
        if meta.get("kind") != KIND:
            raise SnapshotError(
                f"{path} was not saved by onlinestack vw: give a model that was, with -i"
            )
        return arrays, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Take over the state of a saved model."""
        table = self.table()
        columns = arrays["weight"].shape[1]
        table[arrays["slot"], :columns] = arrays["weight"]
        self.shared[[LOW, HIGH]] = arrays["shared"][[LOW, HIGH]]
        books = self.books.copy()
        if meta["whole"]:
            gathered = self.shared[[GAMMA, KAPPA]].copy()
            self.shared[:] = arrays["shared"]
            if "l1_state" in self.options:
                self.shared[GAMMA] = gathered[0]
            if "l2_state" in self.options:
                self.shared[KAPPA] = gathered[1]
            count = len(arrays["norms"])
            self.norms[:count] = arrays["norms"]
            self.initial_t = meta["initial_t"]
            if self.options["preserve_performance_counters"] and not self.plan.test:
                self.books[:] = arrays["books"]
                self.books[[LOG_LOSS, HELD_LOG_LOSS]] = 0.0
                self.passes = meta["passes"]
            self.books[T] = arrays["books"][T]
        self.books[[FIRST, SECOND, MORE]] = books[[FIRST, SECOND, MORE]]
        self.books[[ADDS, STEP]] = books[[ADDS, STEP]]
