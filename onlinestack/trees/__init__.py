"""Boosted trees: flat forests, training, the window they learn from, when they are retrained."""

from __future__ import annotations

__all__: list[str] = []
"""Training pulls in xgboost: import the modules."""
