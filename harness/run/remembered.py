"""Results of self-checks, kept for later runs with equal inputs."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.cache import installed
from harness.base.records import as_json, read_json
from harness.inference.platforms import measuring_code
from harness.perturb import PROTOCOL
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


def memory_of(session: StressSession, tests: Iterable[str]) -> Memory:
    """Return the memory of a session, in which the tests of these checks are run.

    The key is all that decides a check: the models' computations and tensors, images, checks file, this package's code,
    versions and platform. The cache compares the user's code. For a model that cannot be traced, nothing is remembered.
    """
    models = [(role, model.classifier, model) for role, model in sorted(session.roles.items())]
    if any(classifier.fingerprint is None for _, classifier, _ in models):
        return Memory()
    decisive = (
        sorted(tests),
        measuring_code(),
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
