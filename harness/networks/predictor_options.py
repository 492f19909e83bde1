"""The settings that say how predictors are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import Setting, with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PredictorOptions:
    """The way predictors are asked: `batch` images at a time. `classes` are the names of their outputs in order."""

    batch: int = 32
    classes: tuple[str, ...] = ()

    @staticmethod
    def of(values: Mapping[str, Any]) -> PredictorOptions:
        """Return the options by the values of settings; raises `InputError` for a value that means nothing."""
        given = with_defaults(values, PREDICTOR_SETTINGS)
        if given["predictor-batch"] < 1:
            raise InputError("expected a number from 1", setting=f"predictor-batch {given['predictor-batch']}")
        return PredictorOptions(given["predictor-batch"])


PREDICTOR_SETTINGS = (
    Setting(
        "predictor-batch",
        "How many images a predictor is asked about at a time, such as a callable or a server (default: 32).",
        "network",
        default=32,
        type=int,
        metavar="N",
    ),
)
"""The settings that `PredictorOptions` are made of."""
