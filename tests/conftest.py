"""Settings of all tests: compiling a kernel may take longer than any deadline of an example."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("onlinestack", deadline=None, print_blob=True)
settings.load_profile("onlinestack")
