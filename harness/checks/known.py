"""Known issues: failing checks and images that a team accepts for a time; no verdict changes."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness.base.records import read_record, record
from harness.checks.rows import ChecksError
from harness.checks.tables import read_toml

if TYPE_CHECKING:
    from harness.checks.file import ChecksFile

KNOWN = "known.toml"
"""The file, beside the checks file."""
_Text = Annotated[str, Field(min_length=1)]


@record
class KnownIssue:
    """An issue of a check or of an image, which its owner accepts until a day.

    `until` is a day as YYYY-MM-DD. Either `check` or `image` has a value.
    """

    reason: _Text
    owner: _Text
    until: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    check: str | None = None
    image: int | None = None

    @property
    def last_day(self) -> date:
        """Return the last day of the acceptance."""
        return date.fromisoformat(self.until)

    @property
    def about(self) -> str:
        """Name the check or the image."""
        return self.check if self.check is not None else f"image {self.image}"

    def said(self, today: date) -> str:
        """Return the issue as text, with whether it has expired."""
        state = "known issue until" if today <= self.last_day else "known issue, expired on"
        return f"{state} {self.until}: {self.reason} ({self.owner})"


@record
class _File:
    issue: tuple[KnownIssue, ...] = ()


def read_known(checks: ChecksFile) -> tuple[KnownIssue, ...]:
    """Return the known issues beside a checks file; empty without their file.

    Raises `ChecksError` for a file that cannot be read, for a day that does not exist, and for an
    issue that names both or neither of a check and an image.
    """
    path = checks.path.parent / KNOWN
    if not path.exists():
        return ()
    _, table = read_toml(path, error=ChecksError, mended="correct the file or remove it")
    issues = read_record(_File, table, where=f"{path}", error=ChecksError).issue
    for number, issue in enumerate(issues, start=1):
        _expect_sound(issue, where=f"{path}: issue {number}")
    return issues


def _expect_sound(issue: KnownIssue, *, where: str) -> None:
    if (issue.check is None) == (issue.image is None):
        count = "neither" if issue.check is None else "both"
        raise ChecksError(
            f"{where}: names {count} of `check` and `image`, expected one; correct the issue"
        )
    try:
        _ = issue.last_day
    except ValueError:
        raise ChecksError(
            f"{where}: until is {issue.until!r}, expected a day such as 2026-12-31"
        ) from None
