"""What a learner is asked for: a click, a number or a class; and the classes it has met.

The task follows from the settings alone, never from the data, so a label that does not fit is a
bad row and not a change of mind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onlinestack.io.values import canonical, distinct, shown
from onlinestack.linear.losses import LOSSES
from onlinestack.words import nearest_or_all

if TYPE_CHECKING:
    import pyarrow as pa

    from onlinestack.io.batch import Batch
    from onlinestack.io.schema import Schema

__all__ = [
    "CLICK",
    "MULTICLASS",
    "REGRESSION",
    "TARGETS",
    "TASKS",
    "Classes",
    "Target",
    "Task",
    "check_target",
    "task_of",
]

Task = Literal["click", "regression", "multiclass"]
Target = Literal["click", "number", "class"]

CLICK: Task = "click"
REGRESSION: Task = "regression"
MULTICLASS: Task = "multiclass"
TASKS: tuple[Task, ...] = (CLICK, REGRESSION, MULTICLASS)

TARGETS: dict[Task, Target] = {CLICK: "click", REGRESSION: "number", MULTICLASS: "class"}
"""How a source is to read labels for each task: `open_source`'s ``target``."""

_READS = {
    CLICK: ("click",),
    REGRESSION: ("number", "raw"),
    MULTICLASS: ("number", "name", "raw"),
}
"""What a schema may say of its labels for each task."""

_YES_OR_NO = ("logistic", "hinge")
_OF_CLASSES = ("logistic", "hinge", "squared", "classic")


def task_of(task: str | None, loss: str | None, oaa: int | None) -> tuple[Task, str]:
    """Return the task and the loss that settings ask for.

    Parameters
    ----------
    task
        One of `TASKS`; None: multiclass with ``oaa``, else click for the losses logistic and hinge
        and regression for the others.
    loss
        Name of a loss; None: squared for regression, else logistic.
    oaa
        Number of classes, None for no classes.

    Raises
    ------
    ValueError
        Where one is unknown or contradicts another.

    Examples
    --------
    >>> task_of(None, None, None), task_of(None, "squared", None), task_of(None, None, 7)
    (('click', 'logistic'), ('regression', 'squared'), ('multiclass', 'logistic'))
    """
    for name, value, known in (("task", task, TASKS), ("loss", loss, tuple(LOSSES))):
        if value is not None and value not in known:
            raise ValueError(f"{name}={value!r} is unknown{nearest_or_all(value, known)}")
    found: Task = CLICK
    if task is not None:
        found = next(known for known in TASKS if known == task)
    elif oaa is not None:
        found = MULTICLASS
    elif loss is not None and loss not in _YES_OR_NO:
        found = REGRESSION
    if oaa is not None and found != MULTICLASS:
        raise ValueError(
            f"task={task!r} has no classes, but oaa={oaa} gives their number; leave one of them out"
        )
    if oaa is None and found == MULTICLASS:
        raise ValueError("task='multiclass' needs the number of classes; give it as oaa")
    if loss is None:
        return found, "squared" if found == REGRESSION else "logistic"
    if found == REGRESSION and loss in _YES_OR_NO:
        others = ", ".join(name for name in LOSSES if name not in _YES_OR_NO)
        raise ValueError(
            f"loss={loss!r} is one of yes and no, but task='regression' predicts numbers; give one "
            f"of {others}"
        )
    if found == MULTICLASS and loss not in _OF_CLASSES:
        raise ValueError(
            f"oaa teaches each class yes or no, for which loss={loss!r} is not made; give one of "
            f"{', '.join(_OF_CLASSES)}"
        )
    return found, loss


def check_target(task: Task, schema: Schema | None) -> None:
    """Refuse records whose labels were read for another task.

    Raises
    ------
    ValueError
        Where the schema has a label that the source codes otherwise than the task needs.
    """
    if schema is None or schema.label is None or schema.target in _READS[task]:
        return
    raise ValueError(
        f"the source reads column {schema.label!r} as {schema.target} labels, but the learner's "
        f"task is {task}; open it with target={TARGETS[task]!r}"
    )


class Classes:
    """The classes a learner tells apart, and their codes from 1 on.

    Labels that are numbers are the codes themselves. Names get the next free code when they are
    first met as a label to learn.

    Parameters
    ----------
    limit
        How many there are.
    numbered
        Whether labels are the codes 1 to ``limit``.
    text
        Whether values that are equal as text are one class, as in files, where 3 and "3" are
        written alike; otherwise classes are whatever Python objects were given.

    Examples
    --------
    >>> classes = Classes(2, numbered=False)
    >>> [classes.code(name, learn=True) for name in ("cat", "dog", "cat", "cow")]
    [1, 2, 1, None]
    >>> classes.name(2), classes.reason("cow")
    ('dog', "label 'cow' is a class beyond the 2 met before, all that --oaa 2 allows")
    """

    def __init__(self, limit: int, *, numbered: bool, text: bool = False) -> None:
        self.limit = limit
        self.numbered = numbered
        self.names: list[Any] = list(range(1, limit + 1)) if numbered else []
        self._text = text
        self._codes: dict[Any, int] = {}

    def code(self, value: Any, *, learn: bool) -> int | None:
        """Return the code of a class, a new one for a name met first; None where there is none.

        Parameters
        ----------
        value
            The label.
        learn
            Whether a name that was not met yet becomes a class.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if self.numbered:
            try:
                number = float(value)
            except (TypeError, ValueError):
                return None
            return int(number) if 1 <= number <= self.limit and number.is_integer() else None
        name = canonical(value) if self._text else value
        found = self._codes.get(name)
        if found is None and learn and name is not None and len(self.names) < self.limit:
            if not isinstance(name, str | bool | int | float):
                raise ValueError(f"{name!r} is no name of a class; give a text or a number")
            self.names.append(name)
            found = self._codes[name] = len(self.names)
        return found

    def name(self, code: int) -> Any:
        """Return the class of a code, None for 0 (none chosen) and for codes not given out."""
        return self.names[code - 1] if 0 < code <= len(self.names) else None

    def texts(self, codes: NDArray[np.int64]) -> pa.Array:
        """Return the classes of codes as texts, null for 0."""
        import pyarrow as pa

        texts = pa.array([None, *map(canonical, self.names)], pa.large_string())
        return texts.take(pa.array(codes))

    def reason(self, value: Any) -> str:
        """Return why a label is not one of the classes."""
        text = shown(canonical(value))
        if self.numbered:
            return (
                f"label {text} is no whole number from 1 to {self.limit}; name the label column in "
                "--categorical to have its values as names of classes"
            )
        if len(self.names) < self.limit:
            return f"label {text} is none of the classes learned"
        return (
            f"label {text} is a class beyond the {self.limit} met before, all that "
            f"--oaa {self.limit} allows"
        )

    def admit(self, batch: Batch, *, learn: bool) -> Batch:
        """Return the batch with codes as labels; records of other classes are among its rejects.

        Parameters
        ----------
        batch
            Records of a source, the next ones to learn.
        learn
            Whether names not met yet become classes.
        """
        label, reasons = batch.label, {}
        if batch.classes is not None:
            values, which = distinct(batch.classes)
            codes = [self.code(value, learn=learn) for value in values]
            meaning = np.array([math.nan if c is None else c for c in codes] + [math.nan])
            label = meaning[which].astype(np.float32)
            for row in np.flatnonzero(np.isnan(label) & (which >= 0)).tolist():
                reasons[row] = self.reason(values[which[row]])
        else:
            good = (label >= 1) & (label <= self.limit) & (label == np.floor(label))
            for row in np.flatnonzero(~good & ~np.isnan(label)).tolist():
                reasons[row] = self.reason(float(label[row]))
        return batch.coded(label, reasons)

    def state(self) -> list[Any]:
        """Return the names met so far, in the order of their codes."""
        return [] if self.numbered else list(self.names)

    def restore(self, names: list[Any]) -> None:
        """Take back what `state` returned."""
        if not self.numbered:
            self.names = list(names)
            self._codes = {name: code for code, name in enumerate(names, 1)}
