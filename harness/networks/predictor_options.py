"""The settings of calls to predictors."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import Setting, with_defaults
from harness.networks.http_options import HTTP_SETTINGS, HttpOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST = 255
"""Most characters of a file's path; longer text is a list of names."""


@dataclass(frozen=True)
class PredictorOptions:
    """Options of calls to predictors: `batch` images at a time, each batch within `timeout` seconds.

    `classes` are the names of their classes in their own order, empty for the order of the data.
    """

    batch: int = 32
    timeout: float = 120.0
    classes: tuple[str, ...] = ()
    http: HttpOptions = field(default_factory=HttpOptions)

    @staticmethod
    def of(values: Mapping[str, Any]) -> PredictorOptions:
        """Return the options for the values of settings; raises `InputError` for an invalid value."""
        given = with_defaults(values, PREDICTOR_SETTINGS)
        if given["predictor-batch"] < 1:
            raise InputError("expected a number from 1", setting=f"predictor-batch {given['predictor-batch']}")
        if not 0 < given["predictor-timeout"] < threading.TIMEOUT_MAX:
            raise InputError("expected seconds above 0", setting=f"predictor-timeout {given['predictor-timeout']:g}")
        names, http = _names(given["classes"]), HttpOptions.of(values)
        return PredictorOptions(given["predictor-batch"], given["predictor-timeout"], names, http)


def _names(text: str | None) -> tuple[str, ...]:
    """Return the names in a text with commas, or the lines of the file that it names."""
    if text is None:
        return ()
    if len(text) < _LONGEST and Path(text).is_file():
        return tuple(Path(text).read_text("utf-8").splitlines())
    return tuple(name.strip() for name in text.split(","))


PREDICTOR_SETTINGS = (
    Setting(
        "predictor-batch",
        "Send this many images to a predictor, such as a callable or a server, at a time (default: 32).",
        "network",
        default=32,
        type=int,
        metavar="N",
    ),
    Setting(
        "predictor-timeout",
        "Most seconds for loading a predictor and for each batch; beyond, the run is inconclusive (default: 120).",
        "network",
        default=120.0,
        type=float,
        metavar="SECONDS",
    ),
    Setting(
        "classes",
        "A predictor's classes in its own order, if it names none: joined by commas, or a file with one per line "
        "(default: the data's).",
        "network",
        metavar="LIST",
        reads=True,
    ),
    *HTTP_SETTINGS,
)
"""The settings of `PredictorOptions`."""
