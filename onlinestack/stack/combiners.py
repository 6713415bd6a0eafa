"""Combiners: other ways to make one prediction of many, judged beside the mixture.

They are what van Veen, H., Nguyen Le, T. and Segnini, A. (2015), Kaggle Ensembling Guide, calls
voting, weighing, averaging, rank averaging and model selection, made progressive: a combiner
predicts from what the experts said of the record and from labels that came before. Each has a
line in the league table; the mixture hears none of them, so nothing of what is predicted changes.

The geometric mean of the guide is no combiner of its own. The geometric means of the members'
probabilities of a click and of none, divided by their sum, are the probabilities of the mean
log-odds: those of the mixture's expert ``mean``.
"""

from __future__ import annotations

from onlinestack.stack.combiner import Arithmetic, Best, Combiner
from onlinestack.stack.ranks import Rank
from onlinestack.stack.votes import Majority, Weighted

__all__ = ["COMBINERS"]

COMBINERS: dict[str, type[Combiner]] = {
    "arithmetic": Arithmetic,
    "majority": Majority,
    "weighted": Weighted,
    "rank": Rank,
    "best": Best,
}
"""What makes each combiner of a recipe."""
