"""The settings that say how servers of models are asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import Setting, with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class HttpOptions:
    """The way servers are asked: `concurrency` requests side by side, `rate` a second at most (None for any).

    `output` names the model's output to judge, where it has several.
    """

    concurrency: int = 4
    rate: float | None = None
    output: str | None = None

    @staticmethod
    def of(values: Mapping[str, Any]) -> HttpOptions:
        """Return the options by the values of settings; raises `InputError` for a value that means nothing."""
        given = with_defaults(values, HTTP_SETTINGS)
        concurrency, rate = given["http-concurrency"], given["http-rate"]
        if concurrency < 1:
            raise InputError("expected a number from 1", setting=f"http-concurrency {concurrency}")
        if rate is not None and not 0 < rate < math.inf:
            raise InputError("expected a number above 0", setting=f"http-rate {rate:g}")
        return HttpOptions(concurrency, rate, given["http-output"])

    def shared_by(self, processes: int) -> HttpOptions:
        """Return the share of one of so many processes that ask the same server."""
        rate = self.rate and self.rate / processes
        return replace(self, concurrency=max(1, self.concurrency // processes), rate=rate)


HTTP_SETTINGS = (
    Setting(
        "http-concurrency",
        "How many requests a server gets side by side (default: 4).",
        "network",
        default=4,
        type=int,
        metavar="N",
    ),
    Setting(
        "http-rate",
        "How many requests a second a server gets at most, such as 10 (default: any).",
        "network",
        type=float,
        metavar="N",
    ),
    Setting(
        "http-output",
        "The output of a served model to judge (default: the only one, or the only one with a score per class).",
        "network",
        metavar="NAME",
    ),
)
"""The settings that `HttpOptions` are made of."""
