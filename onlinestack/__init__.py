"""Online stacking for click prediction: predict a record, score it, then learn from it.

`OnlineStacker` is the whole stack and `LinearLearner` one linear learner; both are classifiers of
river, with more verbs for blocks of records and for labels that come later. `open_source` reads
files and pipes, `progressive_validate` runs a learner over them, `save` and `load` keep it, and
`Consumer` runs it beside a broker.

The public names are loaded when they are first used, so that importing the package, and
``onlinestack --help``, stay fast.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__all__ = [
    "BinnedROCAUC",
    "Consumer",
    "LinearLearner",
    "LinearRegressor",
    "OnlineStacker",
    "Schema",
    "Topics",
    "__version__",
    "load",
    "open_source",
    "progressive_validate",
    "save",
]

__version__ = "0.1.0"

_HOMES = {
    "BinnedROCAUC": "onlinestack.river_metrics",
    "Consumer": "onlinestack.consume",
    "LinearLearner": "onlinestack.learner",
    "LinearRegressor": "onlinestack.learner",
    "OnlineStacker": "onlinestack.stacker",
    "Schema": "onlinestack.io.schema",
    "Topics": "onlinestack.consume",
    "load": "onlinestack.models",
    "open_source": "onlinestack.io.source",
    "progressive_validate": "onlinestack.progressive",
    "save": "onlinestack.models",
}

if TYPE_CHECKING:
    from onlinestack.consume import Consumer, Topics
    from onlinestack.io.schema import Schema
    from onlinestack.io.source import open_source
    from onlinestack.learner import LinearLearner, LinearRegressor
    from onlinestack.models import load, save
    from onlinestack.progressive import progressive_validate
    from onlinestack.river_metrics import BinnedROCAUC
    from onlinestack.stacker import OnlineStacker

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
