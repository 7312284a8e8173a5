"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no fault of a property; what takes for ever is ended by pytest's timeout.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
