"""Results of self-checks, kept for later runs with equal inputs."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.cache import installed
from harness.base.decisive import decisive_files
from harness.base.errors import InputError
from harness.base.records import as_json, read_json
from harness.perturb import PROTOCOL
from harness.run import opening as _opening
from harness.run.outcome import SelfCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.base import PredictionCache
    from harness.run.session import StressSession

_LIBRARIES = ("stress-harness", "torch", "numpy", "scipy", "hypothesis", "opencv-python", "onnxruntime")


@dataclass(frozen=True)
class Memory:
    """Self-checks of earlier runs, in the user's cache; without a `cache`, or a `key`, everything is checked anew.

    A check that fails is never kept, and no verdict of a gate is: those are a matter of each run.
    """

    cache: PredictionCache | None = None
    key: str = ""

    def remembered(self, name: str, check: Callable[[], SelfCheck]) -> SelfCheck:
        """Return what the check of this name found before, or finds now."""
        if self.cache is None or not self.key:
            return check()
        key = hashlib.sha256(f"self-check {name} {self.key}".encode()).hexdigest()
        if (kept := self.cache.load_text(key)) is not None:
            return read_json(SelfCheck, kept, where="a self-check of an earlier run")
        found = check()
        if found.status != "fail":
            self.cache.store_text(key, as_json(found))
        return found


def memory_of(session: StressSession, *, code: str) -> Memory:
    """Return the memory of a session, in which checks are made with tests of this `code`, a hash; see `code_of`.

    The key is all that decides a check: the models' computations and tensors, images, checks file, code, versions and
    platform. Where a model cannot be traced, its code may have changed, and nothing is remembered.
    """
    models = [(role, model.classifier, model) for role, model in sorted(session.roles.items())]
    if not code or any(classifier.fingerprint is None for _, classifier, _ in models):
        return Memory()
    decisive = (
        code,
        session.images.sha256,
        tuple(session.images.pixels.shape),
        session.checks.sha256,
        sorted(session.fitted.items()),
        session.thorough,
        [
            (role, classifier.fingerprint, model.model_sha256, model.layer, repr(classifier.decides))
            for role, classifier, model in models
        ],
        PROTOCOL,
        platform.python_version(),
        platform.platform(),
        installed(_LIBRARIES),
    )
    return Memory(session.cache, hashlib.sha256(repr(decisive).encode()).hexdigest())


def code_of(tests: Iterable[tuple[Path, str]], *, judging: Path) -> str:
    """Return a hash of the code that makes the checks; empty where it cannot be read.

    It covers the stress tests, given by file and name, the modules in their folders, the file that runs them, and their
    imports.
    """
    tests = sorted(tests)
    files = {path for path, _ in tests}
    folders = {path.parent for path in files} | {path.parent.parent for path in files}
    beside = [path for folder in folders for path in folder.glob("*.py")]
    sources = [*files, *beside, Path(__file__), Path(_opening.__file__), judging]
    try:
        code = decisive_files(sources, projects=(*sorted(folders), Path.cwd()))
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
    except (InputError, OSError):
        return ""
    return hashlib.sha256(repr(([name for _, name in tests], hashes)).encode()).hexdigest()
