"""Skips of stress tests by the harness itself."""

from __future__ import annotations

import pytest

from harness.base.errors import NoModelError, NotApplicableError, NotRecordedError


class NotApplicable(pytest.skip.Exception):  # type: ignore[name-defined,misc]
    """A skip by the harness itself: the check is not about this model or these data."""

    __module__ = "builtins"  # As of pytest's own: it stands before the reason in pytest's output.
    lacking = False
    """True if it is because panel predictions are missing."""
    without = ""
    """The role without a model, where the test does not apply for want of one."""

    @classmethod
    def because(cls, error: NotApplicableError) -> NotApplicable:
        """Return the skip for this reason."""
        skip = cls(str(error))
        skip.lacking = isinstance(error, NotRecordedError)
        skip.without = error.role if isinstance(error, NoModelError) else ""
        return skip
