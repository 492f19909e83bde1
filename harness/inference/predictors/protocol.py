"""The protocol of predictors, and the two records that each one gives: its identity and its answers' kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from harness.base import PredictionCache

Scores = Literal["logits", "probabilities", "labels"]


class PredictorError(InputError):
    """A predictor that could not answer: it crashed, hung, went away, or answered something else than it declared."""


class UnknownPixelsError(PredictorError):
    """Pixels that a predictor of recorded answers was not asked about before the run."""


@dataclass(frozen=True)
class Provides:
    """The answers that a predictor gives.

    `scores` are the values per class, "labels" for predicted classes alone. With `top`, only the K largest
    probabilities are known. `layers` allows attention and gradients. A predictor that is `live` answers any pixels, and
    one that is not only the pixels that it was asked about before the run. Up to `calls` calls of `predict` run at a
    time, each in a thread of its own.
    """

    scores: Scores = "logits"
    top: int | None = None
    layers: bool = False
    live: bool = True
    calls: int = 1
    classes: tuple[str, ...] = ()
    """The names of its classes in its own order, empty where it does not tell."""

    @property
    def known(self) -> int | None:
        """Return how many leading classes have a known probability; 0 for labels only, None for every class."""
        return 0 if self.scores == "labels" else self.top

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the limits of the answers as text, for the report."""
        found = []
        if self.scores == "labels":
            found.append("the predictor returns labels only: no check of confidence applies")
        elif self.top is not None:
            found.append(f"the predictor returns the top {self.top} classes only: no probability beyond them is known")
        if not self.layers:
            found.append("the predictor has no layers: no check of attention applies")
        return tuple(found)


OF_NETWORKS = Provides(layers=True)
"""The answers of a network that runs in this process."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides a predictor's answers: `facts` by name, such as a file's SHA-256, a URL, a version.

    Where the facts do not decide the answers, as for a server without a version, the identity is not `lasting`.
    Answers are then kept for this run only.
    """

    kind: str
    facts: Mapping[str, str]
    lasting: bool = True
    runtime: str = ""
    """Versions of libraries, which decide the last bits of answers and have no part in the hash."""

    @property
    def sha256(self) -> str:
        """Return a hash over the kind and all facts."""
        return hashlib.sha256(repr((self.kind, sorted(self.facts.items()))).encode()).hexdigest()


class Predictor(Protocol):
    """Anything that maps images to answers."""

    @property
    def identity(self) -> Identity:
        """Return what decides the answers; equal in every process of a run, and known before the first answer."""

    @property
    def provides(self) -> Provides:
        """Return the kind of answers; constant as long as the predictor is open."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W), float32 in [0, 1].

        Logits or probabilities are (N, classes) float32, with NaN for probabilities that are not known. Labels are
        (N,) int64. Raises `PredictorError` where there is no answer. A predictor that is not live raises
        `UnknownPixelsError` for pixels that it does not know.
        """

    def close(self) -> None:
        """End processes and connections; may be called twice."""


@runtime_checkable
class Remote(Protocol):
    """A predictor that asks another machine: each answer has a price, and may be wrong in ways that a network adds."""

    def keep_in(self, cache: PredictionCache) -> None:
        """Keep answers beside a cache from now on, one by one; raises `InputError` where those there are of another."""

    def confirm(self) -> None:
        """Return if all answers since the last call can be trusted; raises `BackendLostError`, which ends the run."""
