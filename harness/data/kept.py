"""What was found out about a file at a URL, kept in the user's cache: it is found once for each version of the file."""

from __future__ import annotations

import hashlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from harness.store.arrays import ArrayStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.remote import RemoteFile

_FORMAT = 1
"""Of what is kept; another one than theirs is found anew."""


def kept_facts() -> ArrayStore:
    """Return where such facts are kept."""
    return ArrayStore.of_user("remote")


def found_once(file: RemoteFile, what: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `find` does, plain data by name, or what it returned of this version of the file earlier.

    `what` tells one thing that is to be found from others.
    """
    if not file.version:
        return find()
    store, key = kept_facts(), hashlib.sha256(repr((_FORMAT, what, file)).encode()).hexdigest()
    if (kept := store.load(key)) is not None:
        with closing(kept):
            return kept.facts
    found = find()
    with suppress(OSError), store.locked(key), store.making(key, needed=0) as (_, facts):
        facts.update(found)
    return found
