"""The error of bad input, what was found, expected and to do next; and that of what cannot be measured here."""

from __future__ import annotations


class InputError(Exception):
    """An input that the harness cannot work with; its message is written for the user and needs no traceback.

    The gate ends with exit status 4 on it, `python -m harness` with 2.
    """


class NotApplicableError(InputError):
    """Something that this model or these data cannot be asked, such as attention of a model without a convolution.

    A stress test that raises it is not applicable, with the message as the reason; the run goes on.
    """
