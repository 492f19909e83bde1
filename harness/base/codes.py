"""Codes of errors.

One word for each kind, in front of every message, with an entry in docs/troubleshooting.md.

`stress-harness docs troubleshooting` prints that page, also where the package is installed without
it.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Code(StrEnum):
    """Kinds of errors.

    A refused checkpoint has the codes of `harness.networks.checkpoints.files` instead.
    """

    USAGE = "USAGE"
    CONFIGURATION = "CONFIGURATION"
    DATA = "DATA"
    PIPELINE = "PIPELINE"
    CHECKS = "CHECKS"
    MODEL = "MODEL"
    TRAINING = "TRAINING"
    MODEL_RAISED = "MODEL_RAISED"
    PREDICTOR = "PREDICTOR"
    SERVER = "SERVER"
    ANSWERS = "ANSWERS"
    USER_CODE = "USER_CODE"
    PACKAGE = "PACKAGE"
    FEATURE = "FEATURE"
    PANEL = "PANEL"
    CALIBRATION = "CALIBRATION"
    INCUMBENT = "INCUMBENT"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    GOLDEN = "GOLDEN"
    HISTORY = "HISTORY"
    OUTPUT = "OUTPUT"
    FILE = "FILE"
    CHANGED = "CHANGED"
    CLUSTER = "CLUSTER"
    BACKEND_LOST = "BACKEND_LOST"
    TIME_LIMIT = "TIME_LIMIT"
    MEMORY = "MEMORY"
    INTERRUPTED = "INTERRUPTED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    TEST = "TEST"
    BASELINE = "BASELINE"
    PARTIAL = "PARTIAL"
    SELF_CHECK = "SELF_CHECK"
    PYTEST = "PYTEST"
    CRASH = "CRASH"
    INTERNAL = "INTERNAL"


_IN_FRONT = re.compile(rf"\[({'|'.join(Code)})\] ")
_REFUSED = re.compile(r"REFUSED\[([A-Z_]+)\]")


def explained_at(code: str) -> str:
    """Return the page and section that explain a code, as `stress-harness docs` takes them."""
    section = code.lower() if code in set(Code) else "refused-files"
    return f"troubleshooting#{section}"


def coded(code: str, message: str) -> str:
    """Return a message with its code in front: `[DATA] pictures: no such folder`.

    One that has a code stays as is.
    """
    return message if code_in(message) else f"[{code}] {message}"


def code_in(message: str) -> str:
    """Return the code of a message, such as `DATA`, or `FORMAT` for a refused file.

    Empty without one.
    """
    found = _IN_FRONT.match(message) or _REFUSED.search(message)
    return found[1] if found else ""
