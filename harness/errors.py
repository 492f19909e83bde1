"""The error of bad input, what was found, expected and to do next; and that of what cannot be measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class InputError(Exception):
    """An input that the harness cannot work with; its message is written for the user and needs no traceback.

    The gate ends with exit status 4 on it, `python -m harness` with 2.
    """


class NotApplicableError(InputError):
    """Something that this model or these data cannot be asked, such as attention of a model without a convolution.

    A stress test that raises it is not applicable, with the message as the reason; the run goes on.
    """


def some_of(names: Sequence[str], *, shown: int = 5) -> str:
    """Return the first names, joined by commas, and how many more there are: `a, b and 3 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
