"""What a user names as `package.module:name`: imported from the working directory or the environment."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from harness.errors import InputError, foreign_code

_NAMED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*"


def is_name(spec: str) -> bool:
    """Return whether text has the form of `package.module:name`."""
    return re.fullmatch(_NAMED, spec) is not None


def imported(spec: str, *, option: str, otherwise: str = "") -> Any:
    """Return the object that `package.module:name` names; the working directory is importable.

    Raises `InputError`, which names the option, for another form and for what cannot be imported; `otherwise` ends its
    message.
    """
    if not is_name(spec):
        raise InputError(f"{option} {spec}: expected package.module:name")
    module, _, path = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with foreign_code():
            named = importlib.import_module(module)
            for name in path.split("."):
                named = getattr(named, name)
    except Exception as error:  # Importing runs the user's module, which may fail in any way.
        raise InputError(f"{option} {spec}: cannot be imported ({error!r}){otherwise}") from error
    return named


def source_digest(spec: str) -> str:
    """Return a hash of the file of the module that was imported for `package.module:name`; empty without a file."""
    file = getattr(sys.modules.get(spec.partition(":")[0]), "__file__", None)
    try:
        return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()
    except OSError:
        return ""
