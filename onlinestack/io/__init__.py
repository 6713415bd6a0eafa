"""Sources and sinks: where records come from and where predictions go."""

from __future__ import annotations

__all__: list[str] = []
