"""What a run was like, as a page: what is kept on the way, the history it makes, its charts."""

from __future__ import annotations
