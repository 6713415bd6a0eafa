"""From a record's fields to hashed features: hashing, bins of numbers, the encoder."""

from __future__ import annotations

__all__: list[str] = []
