"""Audit lines, readable models and inverted hashes, in Vowpal Wabbit's own layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from onlinestack.io.vw_text import VWRecords
from onlinestack.linear.interactions import CONSTANT
from onlinestack.linear.reductions import (
    DUMP,
    EXAMPLES,
    FEATURES,
    LABELED,
    LABELED_BEFORE,
    LABELS,
    LOSS,
    LOSS_SINCE,
    UNLABELED,
    Outcome,
    T,
)
from onlinestack.linear.rule import (
    COIN,
    FTRL,
    GAMMA,
    GD,
    HIGH,
    KAPPA,
    LOW,
    NORMS,
    PISTOL,
    TOTAL,
    finalize,
    truncated,
)
from onlinestack.vw.digits import number, short
from onlinestack.vw.model import Model
from onlinestack.vw.options import kept_text

__all__ = ["Auditor", "write_dump"]

VERSION = "9.11.9"
_BITS32 = 0xFFFFFFFF


def _entries(model: Model, records: VWRecords) -> Iterator[tuple[bytes, int, np.float32]]:
    """Yield name, scaled hash and value of each entry of a record's working list, in order."""
    block, reads = records.block, model.reads
    groups: dict[int, list[tuple[bytes, int, np.float32]]] = {}
    for c, first, last in zip(block.names[0], block.start[0], block.stop[0], strict=True):
        if not c or not reads.used[c] or first == last:
            continue
        groups[int(c)] = [
            (
                records.feature_name(i) if records.text else b"",
                int(block.index[i]) * reads.spread,
                block.value[i],
            )
            for i in range(first, last)
        ]
        # Those left out of the linear part are shown, too.
        yield from groups[int(c)]
    if reads.constant:
        yield b"Constant", CONSTANT * reads.spread, np.float32(1)
    for term in reads.terms:
        letters = [int(c) for c in term if c]
        if not all(c in groups for c in letters):
            continue
        for at in product(*(range(len(groups[c])) for c in letters)):
            pairs = zip(letters, letters[1:], at, at[1:], strict=False)
            if not reads.permutations and any(a == b and i > j for a, b, i, j in pairs):
                continue
            members = [groups[c][i] for c, i in zip(letters, at, strict=True)]
            name, slot, x = members[0]
            for other, hashed, factor in members[1:]:
                with np.errstate(all="ignore"):
                    name, x = name + b"*" + other, np.float32(x * factor)
                slot = (16777619 * slot ^ hashed) & _BITS32
            yield name, slot, x


class Auditor:
    """Looks at every record before it is learned: prints it, and keeps the names of slots.

    Parameters
    ----------
    model
        The model.
    print_all
        Whether to print, too.
    """

    def __init__(self, model: Model, print_all: bool) -> None:
        self.model = model
        self.print_all = print_all
        self.names: dict[int, bytes] = {}
        self.stream: TextIO = sys.stdout
        self._found: list[tuple[bytes, int, np.float32]] = []
        self._weights: list[list[tuple[np.float32, np.float32]]] = []
        self._gravity = self._kappa = np.float32(0)
        self._range = np.float32(0), np.float32(0)
        self._vectors = max(1, model.plan.classes) * max(1, model.plan.rounds)

    def before(self, records: VWRecords, named: bool) -> None:
        """Note names (none, where the record comes from a cache) and weights before learning."""
        rule, shared = self.model.rule, self.model.shared
        mask = int(rule.mask)
        self._range = np.float32(shared[LOW]), np.float32(shared[HIGH])
        self._gravity = np.float32(shared[GAMMA] if rule.update == GD else 0)
        self._kappa = np.float32(shared[KAPPA] if rule.update == GD else 1)
        self._found = list(_entries(self.model, records))
        if not named:
            self._found = [
                (name if name == b"Constant" else b"", slot, x) for name, slot, x in self._found
            ]
        for vector in range(self._vectors):
            suffix = b"[%d]" % vector if vector else b""
            for name, slot, _ in self._found:
                self.names.setdefault((slot + vector) & mask, name + suffix)
        self._weights = [self._weigh(vector) for vector in range(self._vectors)]

    def _weigh(self, vector: int) -> list[tuple[np.float32, np.float32]]:
        table, mask = self.model.table(), int(self.model.rule.mask)
        rows = (table[(slot + vector) & mask] for _, slot, _ in self._found)
        return [(row[0], row[1]) for row in rows]

    def after(self, records: VWRecords, out: Outcome, held: bool) -> None:
        """Print the record, with the weights as they were where the prediction was made."""
        if not self.print_all:
            return
        model, rule, plan = self.model, self.model.rule, self.model.plan
        known = not np.isnan(records.block.label[0])
        learns = known and not held and not plan.test
        tag = records.tag[0].as_py()
        end = (" " + tag.decode(errors="surrogateescape") if tag else "") + "\n"
        entries: list[tuple[float, int]] = []
        if plan.rounds:
            entries = [(float(out.pulls[0, v, 2]), v) for v in range(self._vectors)]
        elif plan.classes:
            raws = (out.raw[0, v] for v in range(self._vectors))
            entries = [(float(finalize(raw, *self._range)), v) for v, raw in enumerate(raws)]
        else:
            low, high = (np.float32(model.shared[place]) for place in (LOW, HIGH))
            entries = [(float(finalize(out.raw[0, 0], low, high)), 0)]
            if learns and rule.update in (FTRL, COIN):
                entries.insert(0, (float(self._predicted(records)), 0))
        text = []
        for call, (p, vector) in enumerate(entries):
            renewed = learns and rule.update == PISTOL and not plan.classes
            text.append(number(p) + end + self._line(vector, out.pulls[0, call], renewed))
        if learns and plan.classes and (plan.rounds or rule.update != GD):
            # Each class is looked at again when it is taught.
            for vector in range(self._vectors):
                pull = out.pulls[0, self._vectors + vector]
                line = self._line(vector, pull, rule.update == PISTOL)
                text.append(number(float(pull[2])) + end + line)
        self.stream.write("".join(text))

    def _predicted(self, records: VWRecords) -> np.float32:
        """Return what the weights say before the record is learned, clamped."""
        raw = np.float32(records.block.initial[0])
        block, alone = records.block, []
        for c, first, last in zip(block.names[0], block.start[0], block.stop[0], strict=True):
            if c and self.model.reads.used[c]:
                alone += [bool(self.model.reads.linear[c])] * int(last - first)
        alone += [True] * (len(self._found) - len(alone))
        entries = zip(self._found, self._weights[0], alone, strict=True)
        with np.errstate(all="ignore"):
            for (_, _, x), (w, _), counts in entries:
                if not counts:
                    continue
                raw = np.float32(raw + np.float32(w * x))
        return np.float32(finalize(raw, *self._range))

    def _line(self, vector: int, pull: NDArray[np.float32], renewed: bool) -> str:
        """Return a vector's line, with the weights before the record or those renewed by it."""
        rule, mask = self.model.rule, int(self.model.rule.mask)
        gravity, kappa = self._gravity, self._kappa
        if self.model.plan.rounds:
            gravity, kappa = pull[0], pull[1]
        weights = self._weigh(vector) if renewed else self._weights[vector]
        rows = []
        with np.errstate(all="ignore"):
            for (name, slot, x), (w, g) in zip(self._found, weights, strict=True):
                shown = np.float32(truncated(w, gravity) * kappa)
                entry = f"{(slot + vector) & mask}:{short(float(x))}:{short(float(shown))}"
                if rule.adaptive and rule.update == GD:
                    entry += f"@{short(float(g))}"
                label = name.decode(errors="surrogateescape")
                rows.append((-abs(float(np.float32(w * x))), f"\t{label}:{entry}"))
        rows.sort(key=lambda row: row[0])
        return "".join(entry for _, entry in rows) + "\n"


def _header(model: Model) -> list[str]:
    books, shared = model.books, model.shared
    whole = not model.options["predict_only_model"]
    low, high = short(shared[LOW]), short(shared[HIGH])
    lines = [
        f"Version {VERSION}",
        f"Id {model.options['id']}",
        f"Min label:{low}",
        f"Max label:{high}",
        f"bits:{model.options['bit_precision']}",
        "lda:0",
        "0 ngram:",
        "0 skip:",
        f"options: {kept_text(model.kept())}".rstrip(),
        "Checksum: 0",
        ":1" if whole else ":0",
    ]
    if not whole:
        return lines
    values = {
        "initial_t": model.initial_t,
        **_by_vector(model, "norm normalizer", NORMS),
        "t": books[T],
        "sum_loss": books[LOSS],
        "sum_loss_since_last_dump": books[LOSS_SINCE],
        "dump_interval": books[DUMP],
        "min_label": shared[LOW],
        "max_label": shared[HIGH],
        "weighted_labeled_examples": books[LABELED],
        "weighted_labels": books[LABELS],
        "weighted_unlabeled_examples": books[UNLABELED],
        "example_number": int(books[EXAMPLES]),
        "total_features": int(books[FEATURES]),
        **_by_vector(model, "total_weight", TOTAL),
        "sd::oec.weighted_labeled_examples": books[LABELED_BEFORE],
        "current_pass": model.passes,
        "l1_state": shared[GAMMA],
        "l2_state": shared[KAPPA],
    }
    for name, value in values.items():
        lines.append(f"{name} {value if isinstance(value, int) else short(value)}")
    return lines


def _by_vector(model: Model, name: str, place: int) -> dict[str, float]:
    """Return a number of the first weight vector, or where asked for those of all by name."""
    if not model.options["per_model_save_load"] or model.rule.update != GD:
        return {name: model.norms[0, place]}
    count = max(1, model.plan.classes) * max(1, model.plan.rounds)
    return {f"{name}_{v}": value for v, value in enumerate(model.norms[:count, place].tolist())}


def write_dump(path: str, model: Model, names: dict[int, bytes] | None) -> None:
    """Write a model as text.

    Parameters
    ----------
    path
        The file.
    model
        The model.
    names
        Names of slots, in front of their numbers; None for numbers only.

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    table = model.table()
    columns = model.state_columns if not model.options["predict_only_model"] else [0]
    used = np.flatnonzero(table[:, columns].any(axis=1))
    whole, leader = not model.options["predict_only_model"], model.rule.update != GD
    with open(path, "wb") as file:
        file.write("".join(f"{line}\n" for line in _header(model)).encode())
        for slot in used.tolist():
            name = b""
            if names is not None and (leader or not whole or table[slot, 0] != 0):
                name = names[slot] + b":" if slot in names else b"" if whole else b":"
            text = " ".join(short(value) for value in table[slot, columns].tolist())
            file.write(name + f"{slot}:{text}\n".encode())
