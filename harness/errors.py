"""The one error of bad input: what was found, what was expected, what to do next."""

from __future__ import annotations


class InputError(Exception):
    """An input that the harness cannot work with; its message is written for the user and needs no traceback.

    The gate ends with exit status 4 on it, `python -m harness` with 2.
    """
