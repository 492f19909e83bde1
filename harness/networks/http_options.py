"""The settings of requests to servers of models."""

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
    """Options of requests: `concurrency` at a time, at most `rate` a second (None for any).

    `output` names the model's output to measure, if it has several.
    """

    concurrency: int = 4
    rate: float | None = None
    output: str | None = None

    @staticmethod
    def of(values: Mapping[str, Any]) -> HttpOptions:
        """Return the options for the values of settings; raises `InputError` for an invalid value."""
        given = with_defaults(values, HTTP_SETTINGS)
        concurrency, rate = given["http-concurrency"], given["http-rate"]
        if concurrency < 1:
            raise InputError("expected a number from 1", setting=f"http-concurrency {concurrency}")
        if rate is not None and not 0 < rate < math.inf:
            raise InputError("expected a number above 0", setting=f"http-rate {rate:g}")
        return HttpOptions(concurrency, rate, given["http-output"])

    def shared_by(self, processes: int) -> HttpOptions:
        """Return the options of one of several `processes` that share the server's limits."""
        rate = self.rate and self.rate / processes
        return replace(self, concurrency=max(1, self.concurrency // processes), rate=rate)


HTTP_SETTINGS = (
    Setting(
        "http-concurrency",
        "Send this many requests to a server at a time (default: 4).",
        "network",
        default=4,
        type=int,
        metavar="N",
    ),
    Setting(
        "http-rate",
        "Send at most this many requests a second, such as 10 (default: any).",
        "network",
        type=float,
        metavar="N",
    ),
    Setting(
        "http-output",
        "The output of a served model to measure (default: the only one, or the only one with a score per class).",
        "network",
        metavar="NAME",
    ),
)
"""The settings of `HttpOptions`."""
