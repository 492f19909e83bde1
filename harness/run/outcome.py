"""The outcome of a gate run: all that it knows at its end, its verdict and exit status."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from harness.base.records import record
from harness.checks.known import KnownIssue
from harness.run.environment import Environment
from harness.run.findings import STEADINESS, Findings
from harness.run.shown import ExamplePictures
from harness.run.status import NOT_JUDGED, PASSED, WORSE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.feature_records import FeatureRecord
    from harness.run.history import History, Overall
    from harness.run.results import Results

T = TypeVar("T", bound="FeatureRecord")


@record
class RunFacts:
    """Facts of a run: its id, its start, and what it left out on purpose.

    `folder` is where the run was started; paths within it are shown relative to it. `day` is the
    day of the run, UTC. `scope` names the parts that a complete run of the quick profile leaves
    out, and is empty for any other. `stopped` says where the run stopped, and is empty for a whole
    run. A `brief` run makes no pictures, and its page has no figures. A record of an earlier
    version has no `environment`.
    """

    command: str
    profile: str
    versions: dict[str, str]
    id: str = ""
    folder: str = ""
    day: date = field(default_factory=lambda: datetime.now(UTC).date())
    scope: str = ""
    stopped: str = ""
    brief: bool = False
    environment: Environment | None = None


@record
class RunInputs:
    """Inputs of a run: models by their role, images, and thresholds with their origin.

    `provenance` names the reference models behind the thresholds, and `recipe` has facts about
    them. `known` are issues that the team has accepted; they change no verdict.
    """

    models: dict[str, dict[str, Any]]
    data: dict[str, Any]
    recipe: dict[str, Any]
    checks_sha256: str
    provenance: str = "of unknown origin"
    known: tuple[KnownIssue, ...] = ()

    @property
    def batches(self) -> tuple[str, ...]:
        """Return the batches for which the verdict holds, by any model; empty for any batches."""
        models = [model for model in self.models.values() if model]
        return tuple(dict.fromkeys(model["batches"] for model in models if "batches" in model))


@record
class ReportImages:
    """Images in the report of a run, as addresses with their content.

    `pictures` are those of checks, by id. `thumbnails` are images that the overview names, by
    number, and images of rows that are about one image each, by the id of their check.
    """

    pictures: dict[str, ExamplePictures] = field(default_factory=dict)
    thumbnails: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """All that a finished run knows: the content of `stress.json`, from which reports follow.

    `parts` are the records of features, by their keys in `stress.json`. `history` has the earlier
    runs that a report shows, and this one last. `attempt` is the number of different candidates
    that these checks have judged on these data, see `attempt_of`; 0 if unknown.
    """

    run: RunFacts
    inputs: RunInputs
    results: Results
    findings: Findings = field(default_factory=Findings)
    parts: Mapping[str, FeatureRecord] = field(default_factory=dict)
    images: ReportImages = field(default_factory=ReportImages)
    history: History | None = None
    attempt: int = 0

    def part(self, kind: type[T]) -> T | None:
        """Return the record of a feature by its type; None for a run without one."""
        for part in self.parts.values():
            if isinstance(part, kind):
                return part
        return None

    @property
    def cautions(self) -> tuple[str, ...]:
        """Return why a pass is worth little, as features say."""
        return tuple(part.headline_caution for part in self.parts.values() if part.headline_caution)

    def known_text(self, about: str) -> str:
        """Return known issues as text; empty without any.

        `about` is the id of a check, or `image N`.
        """
        issues = [issue for issue in self.inputs.known if issue.about == about]
        return "; ".join(issue.said(self.run.day) for issue in issues)

    @property
    def verdict(self) -> Overall:
        """Return the run's verdict.

        An error outranks all, and a run that did not cover everything is partial. A failed
        self-check is an error, unless a check fails that it does not put in doubt: self-checks
        guard against a wrong pass.
        """
        if self._is_inconclusive:
            return "error"
        if self.results.omissions or self.results.open_checks:
            return "partial"
        return "fail" if self.results.fails else "pass"

    @property
    def _is_inconclusive(self) -> bool:
        results = self.results
        if results.errors or any(verdict.status == "error" for verdict in results.verdicts):
            return True
        if self.findings.unsound and not self.fails_in_earnest:
            return True
        return bool(results.inconclusive) or not results.judged

    @property
    def fails_in_earnest(self) -> bool:
        """Return whether a check or a test fails that no failed self-check puts in doubt."""
        unsound = self.findings.unsound
        for verdict in self.results.failed:
            if not any(check.doubts(verdict) for check in unsound):
                return True
        unsteady = any(check.name in STEADINESS for check in unsound)
        return bool(self.results.failed_tests) and not unsteady

    @property
    def exit_status(self) -> int:
        """Return 0 when every check that ran holds, 1 when one does not, 4 without a verdict.

        A partial run has the status of the checks that it decided, and 4 if it decided none.
        """
        if self.verdict == "error" or not self.results.decided:
            return NOT_JUDGED
        return WORSE if self.results.fails else PASSED
