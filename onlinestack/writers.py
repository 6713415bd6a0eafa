"""Trackers: the figures of a run as scalars, for TensorBoard, MLflow or Prometheus.

All of them are fed by the stream of checkpoints that ``--json`` prints, and in between by the
figures of the moment, every few seconds. A tracker that fails is told of once and left out; the
run goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from onlinestack.config import ConfigError
from onlinestack.figures import Relay, Report
from onlinestack.words import nearest

__all__ = ["WRITERS", "Scalar", "Tracked", "open_writer", "scalars"]

EVERY = 5.0
"""Seconds between two looks at a run, where no checkpoint comes."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number of a run: of whom, if it is that of one expert, and how much it is."""

    name: str
    of: str
    value: float

    @property
    def path(self) -> str:
        """Name and owner as one."""
        return f"{self.name}/{self.of}" if self.of else self.name


class Writer(Protocol):
    """Where scalars go."""

    def write(self, step: int, values: Sequence[Scalar]) -> None:
        """Take the figures as they were behind so many records."""

    def close(self) -> None:
        """Hear that no more come."""


def scalars(figures: Mapping[str, Any]) -> Iterator[Scalar]:
    """Yield the numbers of a checkpoint, a summary or a generation.

    Examples
    --------
    >>> [s.path for s in scalars({"event": "x", "auc": None, "records": 2, "weights": {"f 2": 1}})]
    ['records', 'weight/f 2']
    >>> list(scalars({"experts": {"trees": {"kind": "member", "log_loss": 0.5}}}))
    [Scalar(name='expert_log_loss', of='trees', value=0.5)]
    >>> list(scalars({"event": "generation", "member": "trees", "number": 3, "rounds": 60}))[1]
    Scalar(name='generation_rounds', of='trees', value=60.0)
    """
    owner = str(figures.get("member", ""))
    prefix = "generation_" if owner else ""
    for key, value in figures.items():
        if key == "experts":
            for name, own in value.items():
                for each in scalars(own):
                    yield Scalar(f"expert_{each.name}", name, each.value)
        elif isinstance(value, Mapping):
            for name, own in value.items():
                if isinstance(own, int | float):
                    yield Scalar(key.removesuffix("s"), str(name), float(own))
        elif isinstance(value, int | float) and math.isfinite(value):
            yield Scalar(prefix + key, owner, float(value))


class TensorBoard:
    """Event files in a folder, for TensorBoard: one curve a scalar over the records read."""

    def __init__(self, where: str) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(where)

    def write(self, step: int, values: Sequence[Scalar]) -> None:
        """Take the figures as they were behind so many records."""
        for scalar in values:
            self._writer.add_scalar(scalar.path, scalar.value, step)
        self._writer.flush()

    def close(self) -> None:
        """Hear that no more come."""
        self._writer.close()


class MLflow:
    """A run of an MLflow experiment; the server is what ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, where: str) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(where)
        mlflow.start_run()

    def write(self, step: int, values: Sequence[Scalar]) -> None:
        """Take the figures as they were behind so many records."""
        self._mlflow.log_metrics({scalar.path: scalar.value for scalar in values}, step=step)

    def close(self) -> None:
        """Hear that no more come."""
        self._mlflow.end_run()


class Prometheus:
    """A page of gauges for Prometheus, at a port of this machine alone unless an address is given.

    Every scalar is the gauge ``onlinestack_NAME``; those of experts have the label ``of``.
    """

    def __init__(self, where: str) -> None:
        from prometheus_client import CollectorRegistry, Gauge, start_http_server

        address, _, port = where.rpartition(":")
        if not port.isdecimal() or int(port) >= 2**16:
            raise ConfigError(f"--track prometheus:{where} has no port: give one, such as 9100")
        self._gauge: Any = Gauge
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._server, self._thread = start_http_server(
            int(port), address or "127.0.0.1", self._registry
        )

    def write(self, step: int, values: Sequence[Scalar]) -> None:
        """Take the figures as they were behind so many records."""
        for scalar in values:
            name, of = scalar.name, scalar.of
            labels = ["of"] if of else []
            if name not in self._gauges:
                self._gauges[name] = self._gauge(
                    f"onlinestack_{name}",
                    f"{name.replace('_', ' ')} of the run",
                    labels,
                    registry=self._registry,
                )
            gauge = self._gauges[name]
            (gauge.labels(of) if of else gauge).set(scalar.value)

    def close(self) -> None:
        """Hear that no more come."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


WRITERS: dict[str, Callable[[str], Writer]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "prometheus": Prometheus,
}
"""Trackers by name, which is also that of the extra that brings their library."""


def open_writer(told: str) -> Writer:
    """Open a tracker.

    Parameters
    ----------
    told
        ``tensorboard:DIR``, ``mlflow:EXPERIMENT`` or ``prometheus:PORT``.

    Raises
    ------
    ConfigError
        Where it is none of these, or its library is not installed.
    OSError
        Where the folder or the port cannot be had.
    """
    kind, _, where = told.partition(":")
    if kind not in WRITERS or not where:
        hint = "" if kind in WRITERS else nearest(kind, WRITERS)
        raise ConfigError(
            f"--track {told} is no tracker{hint}: give tensorboard:DIR, mlflow:EXPERIMENT or "
            "prometheus:PORT"
        )
    try:
        return WRITERS[kind](where)
    except ImportError:
        raise ConfigError(
            f"--track {told} needs a library that is not here: pip install 'onlinestack[{kind}]'"
        ) from None
    except OSError as error:
        raise OSError(f"--track {told}: {(error.strerror or str(error)).lower()}") from None
    except ConfigError:
        raise
    except Exception as error:  # whatever a library has of its own
        raise ConfigError(f"--track {told} can not be opened: {error}") from None


class Tracked(Relay):
    """A report that also feeds trackers.

    Parameters
    ----------
    report
        The report, which hears everything as before.
    writers
        The trackers.
    """

    live = True

    def __init__(self, report: Report, writers: Mapping[str, Writer]) -> None:
        super().__init__(report)
        self._writers = dict(writers)
        self._next = time.monotonic() + EVERY
        self._read = 0

    def tick(self, run: Any) -> None:
        """Hear that some more records were read; look at them every few seconds."""
        super().tick(run)
        if time.monotonic() >= self._next:
            self._write(run.checkpoint())

    def checkpoint(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures at a doubling count of records."""
        super().checkpoint(scores)
        self._write(scores)

    def generation(self, event: Mapping[str, Any]) -> None:
        """Tell what became of a training."""
        super().generation(event)
        self._write(event, event["active_from"] or event["cut"])

    def summary(self, scores: Mapping[str, Any]) -> None:
        """Tell the figures of the whole run."""
        super().summary(scores)
        self._write(scores, scores["read"])

    def end(self) -> None:
        """Close the trackers."""
        super().end()
        for told in list(self._writers):
            self._try(told, lambda writer: writer.close())
        self._writers.clear()

    def _write(self, figures: Mapping[str, Any], step: int | None = None) -> None:
        values = list(scalars(figures))
        behind = figures["records"] if step is None else step
        for told in list(self._writers):
            self._try(told, lambda writer: writer.write(behind, values))
        self._next = time.monotonic() + EVERY

    def _try(self, told: str, act: Callable[[Writer], None]) -> None:
        """Do something with a tracker; one that fails, in whatever way, is left out."""
        try:
            act(self._writers[told])
        except Exception as error:
            del self._writers[told]
            reason = " ".join(str(error).split()) or type(error).__name__
            self._report.note(f"--track {told} is left out from here on: {reason}")
