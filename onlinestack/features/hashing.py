"""The hashes of fields and their values: the shared MurmurHash3 of ``onlinestack.murmur``."""

from __future__ import annotations

from onlinestack.murmur import (
    murmur,
    murmur_at,
    uniform_hash,
    vw_hash,
    vw_hash_at,
    vw_hash_string,
)

__all__ = ["murmur", "murmur_at", "uniform_hash", "vw_hash", "vw_hash_at", "vw_hash_string"]
