"""Result of a gate run for Python: its verdict, every value measured, and a view for notebooks."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from harness.base.errors import InputError, PackageError
from harness.base.records import read_record
from harness.run.shown import ExamplePictures, address_of, image_in
from harness.run.status import PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pandas import DataFrame

    from harness.run.budget import Plan

_SHOWN = 8
"""Images of failing checks that a notebook shows."""
_SIDE = 112
"""Pixels of the width that images in a notebook have at most."""
_NUMBERS = ("value", "threshold", "reference_mean", "reference_std", "minimum_detectable_drop")
"""Columns of a table that have a number, or none."""
_COLUMNS = (
    *("id", "role", "family", "metric", "unit", "status", "direction", "n", "provenance"),
    *_NUMBERS,
    *("detail", "explanation"),
)
"""Fields of a check in `stress.json` that are columns of a table."""
_NOT_PASSED = {"error", "fail", "inconclusive"}
"""Statuses of the checks that a notebook shows first."""


@dataclass(frozen=True)
class Measured:
    """Result of one check: the `value` measured on `n` images, and its threshold.

    In a run that stops after n of its `stopped` images, the value is the best that the remaining
    images allow.
    """

    id: str
    role: str
    family: str
    metric: str
    status: str
    value: float | None
    threshold: float | None
    direction: Literal["at_least", "at_most"]
    n: int
    explanation: str
    stopped: int = 0

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Measured:
        """Return the result in an entry of `stress.json`."""
        return Measured(**{item.name: entry[item.name] for item in fields(Measured)})


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    An inconclusive run has the verdict `error` and `exit_status` 4; `errors` say why.

    `report` is the content of `stress.json` and `reports` its folder; None if the run left no
    report, and `refused` says why. `status` is the exit status of its pytest. `printed` are the
    last lines that it printed, empty where they went to the terminal. `plan` is the answer to a
    request for a plan alone.
    """

    exit_status: int
    reports: Path
    report: Mapping[str, Any] | None = None
    status: int = 0
    printed: tuple[str, ...] = ()
    plan: Plan | None = None
    refused: str = ""

    @property
    def verdict(self) -> str:
        """Return pass, fail, partial or error."""
        return "error" if self.report is None else str(self.report["verdict"])

    @property
    def passed(self) -> bool:
        """Return whether every check of a whole run passes."""
        return self.verdict == "pass"

    @property
    def headline(self) -> str:
        """Return the verdict in one sentence."""
        if self.report is None:
            return f"ERROR: {self.refused}"
        return str(self.report["headline"])

    @property
    def errors(self) -> tuple[str, ...]:
        """Return why nothing could be judged."""
        if self.report is None:
            return (self.refused,)
        return tuple(self.report["errors"])

    @cached_property
    def checks(self) -> tuple[Measured, ...]:
        """Return the results, check by check."""
        if self.report is None:
            return ()
        return tuple(map(Measured.of, self.report["checks"]))

    @property
    def failed(self) -> tuple[Measured, ...]:
        """Return the checks that fail."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def page(self) -> Path:
        """Return the path of the report for people."""
        return self.reports / PAGE

    def __str__(self) -> str:
        return self.headline

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the headline, images of failing checks, and tables.

        Checks that do not pass come first, the worst on top. All others are folded if there are
        such checks.
        """
        checks = self._worst_first()
        failing = [check for check in checks if check.status in _NOT_PASSED]
        others = [check for check in checks if check.status not in _NOT_PASSED]
        counts = Counter(check.status.replace("_", " ") for check in others)
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        opened = "" if failing else " open"
        folded = f"<details{opened}><summary>{summary}</summary>{_table(others)}</details>"
        parts = [
            f"<p><b>{escape(self.headline)}</b></p>",
            self._images([check.id for check in failing]),
        ]
        if failing:
            parts.append(_table(failing))
        if others:
            parts.append(folded)
        return "".join(parts)

    def to_pandas(self) -> DataFrame:
        """Return a table of pandas with a row for each check, in the order of the checks file.

        Its index is the id. `interval_low` and `interval_high` are the ends of the 95% interval.
        An inconclusive run may have no row. Raises `PackageError` if pandas is missing.

            result.to_pandas().query("status == 'fail'").sort_values("family")
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise PackageError(
                f"to_pandas: needs pandas, which cannot be imported ({error}); pip install "
                "'stress-harness[pandas]'"
            ) from None

        entries = self.report["checks"] if self.report else ()
        rows = [[entry[name] for name in _COLUMNS] for entry in entries]
        table = DataFrame(rows, columns=list(_COLUMNS))
        intervals = [entry["interval"] or (None, None) for entry in entries]
        table["interval_low"] = [low for low, _ in intervals]
        table["interval_high"] = [high for _, high in intervals]
        numbers = [*_NUMBERS, "interval_low", "interval_high"]
        return table.astype(dict.fromkeys(numbers, "float64")).set_index("id")

    def _worst_first(self) -> list[Measured]:
        """Return the results in the order of the report, the worst failure first."""
        from harness.checks import Verdict
        from harness.run.margins import worst_first
        from harness.run.stress_json import plain_verdicts

        if self.report is None:
            return []
        verdicts = read_record(tuple[Verdict, ...], plain_verdicts(self.report), where=REPORT)
        by_id = {check.id: check for check in self.checks}
        return [by_id[verdict.check.id] for verdict in worst_first(verdicts)]

    def _images(self, names: Sequence[str]) -> str:
        """Return the first images of these checks, with captions; missing images are left out."""
        if self.report is None:
            return ""
        pictures = self.report.get("pictures", {})
        captions: dict[str, str] = {}
        for name in names:
            pictures_of_check = read_record(ExamplePictures, pictures.get(name, {}), where=REPORT)
            for image, caption in pictures_of_check.seen:
                captions.setdefault(image, caption)

        figures = []
        for image, caption in [*captions.items()][:_SHOWN]:
            with suppress(InputError):
                figures.append(_figure(image_in(self.reports, image), caption))
        return f"<div>{''.join(figures)}</div>" if figures else ""


def _table(checks: Sequence[Measured]) -> str:
    """Return checks as a table of HTML."""
    sign = {"at_least": "≥ ", "at_most": "≤ "}
    lines = []
    for check in checks:
        value = _number(check.value)
        n = f"{check.n}"
        if check.stopped:
            value = _number(check.value, "at most ")
            n = f"{check.n} of {check.stopped}"
        threshold = _number(check.threshold, sign[check.direction])
        cells = (check.id, check.status.replace("_", " "), value, threshold, n)
        lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))

    titles = ("check", "status", "value", "threshold", "n")
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(content: bytes, caption: str) -> str:
    """Return an image as HTML with its caption below.

    A small image is enlarged by a whole factor, without smoothing, because a browser would blur it.
    """
    width = _width_of(content)
    factor = max(1, _SIDE // width)
    shown_width = min(width * factor, _SIDE)
    style = ' style="image-rendering:pixelated"' if factor > 1 else ""
    text = escape(caption)
    image = f'<img src="{address_of(content)}" width="{shown_width}"{style} alt="{text}">'
    frame = f"display:inline-block;margin:4px;max-width:{_SIDE + 24}px;vertical-align:top"
    return f'<figure style="{frame}">{image}<br>{text}</figure>'


def _width_of(content: bytes) -> int:
    """Return the width of a WebP image in pixels; raises `InputError` for any other content."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
            return image.width
    except (OSError, ValueError) as error:
        raise InputError(f"a picture of the record cannot be read ({error})") from None


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{sign}{value:.4g}"
