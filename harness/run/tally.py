"""A tally of what the tests of a run reported, from all its processes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import some_of
from harness.run.findings import Findings
from harness.run.results import FamilyCost, OtherTest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Verdict
    from harness.run.feature_records import FeatureRecord

MAX_NAME_LENGTH = 300
"""Characters of a test's name that are shown. The name of a test with parameters may be longer."""
MAX_TEXT_LENGTH = 20_000
"""Characters that the record keeps of what one test printed."""
_MAX_TOTAL_TEXT_LENGTH = 200_000
"""Characters that the record keeps of what all tests printed."""


@dataclass
class Tally:
    """Reports of the tests of a run; `verdicts` are by the id of the check."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    failed_tests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    findings: Findings = field(default_factory=Findings)
    parts: dict[str, FeatureRecord] = field(default_factory=dict)
    """Records of features by their keys in `stress.json`."""
    tests: list[OtherTest] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of all cores by family."""
    _test_of_check: dict[str, str] = field(default_factory=dict)
    _share_of_family: dict[str, float] = field(default_factory=dict)
    _checks_by_cause: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def take(self, verdict: Verdict, *, test: str) -> None:
        """Take the verdict of a test.

        If a test runs again, as with a plugin of retries, its gravest verdict counts. The verdict
        of a second test on the same check is an error.
        """
        self._expect_one_test(verdict, test)
        self._expect_one_share(verdict)

        check_id = verdict.check.id
        earlier = self.verdicts.get(check_id)
        if earlier is None or verdict.outranks(earlier):
            self.verdicts[check_id] = verdict
        if verdict.status == "error":
            cause = verdict.explain().removeprefix(f"{check_id}: ")
            code = verdict.code or Code.TEST
            self._checks_by_cause.setdefault((code, cause), {})[check_id] = None

    def _expect_one_test(self, verdict: Verdict, test: str) -> None:
        check_id = verdict.check.id
        first_test = self._test_of_check.setdefault(check_id, test)
        if first_test != test:
            self._add_error(
                Code.TEST,
                f"{check_id}: two tests have a verdict of this name, {first_test} and {test}; name "
                "a metric in their `@check(family, metric=...)`, a family of its own for one, or "
                "the row otherwise",
            )

    def _expect_one_share(self, verdict: Verdict) -> None:
        """Add an error if workers measured different samples of a family."""
        if verdict.value is None:
            return
        family = verdict.check.family
        share = verdict.check.conditions.share
        if self._share_of_family.setdefault(family, share) != share:
            self._add_error(
                Code.USAGE,
                f"{verdict.check.id}: workers chose other samples of family {family} to fit into "
                "the time; run the gate without workers, or calibrate with --budget",
            )

    def take_failure(self, message: str, *, test: str, called: bool) -> None:
        """Take the failure of a test without a verdict.

        A failing assertion in the test function is a failed test. Any other exception is an error.

        Args:
            message: The exception as pytest words it; empty if pytest has no words for it.
            test: The id of the test.
            called: Whether the test function failed, and not its setup or teardown.
        """
        name = shortened_name(test)
        if called and message.startswith(("AssertionError", "assert ")):
            self.failed_tests.append(name)
            return
        first_line = message.splitlines()[0] if message else "failed"
        self._add_error(Code.TEST, f"{name}: {first_line}")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the run is inconclusive: each cause once, with the checks that met it."""
        reasons = []
        for (code, cause), check_ids in self._checks_by_cause.items():
            reasons.append(coded(code, f"{some_of([*check_ids])}: {cause}"))
        return (*reasons, *self.errors)

    @property
    def listed_tests(self) -> tuple[OtherTest, ...]:
        """Return the tests to list by their names, with what the record keeps of their texts."""
        length_left = _MAX_TOTAL_TEXT_LENGTH
        tests = []
        for test in sorted(self.tests, key=lambda test: test.name):
            tests.append(replace(test, text=shortened(test.text, max(0, length_left))))
            length_left -= len(test.text)
        return tuple(tests)

    def costs(self, verdicts: Sequence[Verdict]) -> dict[str, FamilyCost]:
        """Return the cost of each family that has a verdict, in the order of the verdicts."""
        images: dict[str, int] = {}
        for verdict in verdicts:
            family = verdict.check.family
            images[family] = max(verdict.out_of, images.get(family, 0))
        return {
            family: FamilyCost(round(self.seconds[family], 2), count)
            for family, count in images.items()
        }

    def _add_error(self, code: str, message: str) -> None:
        self.errors.append(coded(code, message))


def shortened_name(test: str) -> str:
    """Return the name of a test, of at most `MAX_NAME_LENGTH` characters and an ellipsis."""
    if len(test) <= MAX_NAME_LENGTH:
        return test
    return f"{test[:MAX_NAME_LENGTH]}…"


def shortened(text: str, max_length: int) -> str:
    """Return the last characters of a text, below a line with the number of those left out."""
    left_out = len(text) - max_length
    if left_out <= 0:
        return text
    return f"{left_out:,} characters are left out\n{text[left_out:]}"
