"""The outcome of a gate run: one verdict from many, the exit status, and the record for other tools."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import KW_ONLY, field, fields
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from harness.base import records
from harness.base.codes import Code, code_in, coded
from harness.base.errors import some_of, writable
from harness.base.records import read_record, record
from harness.checks import Check, Verdict
from harness.checks.check import STATUSES
from harness.checks.families import family_in_words
from harness.checks.known import KnownIssue
from harness.checks.roles import INCUMBENT, ROLES
from harness.measures.metric import Curve
from harness.perturb import IDENTITY, PROTOCOL
from harness.run.history import FARTHEST, History, Line, Overall, chance_of_a_pass
from harness.run.history import SCHEMA as HISTORY_SCHEMA
from harness.run.overview import Overview
from harness.run.shown import Face, Pictures, address_of, named, with_images
from harness.run.status import INCONCLUSIVE, NOT_JUDGED, PASSED, SCHEMA, WORSE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COUNTED = {"error": "without a result", "informational": "informational (without a threshold)"}
"""The words for a status in a count, where they are others than its name."""
ROWS_PICTURED = 48
"""The worst images that have a picture, in a family with a check for each image, such as golden ones."""
SETTLED = 3
"""Reference models from which on thresholds are not provisional."""
_LEFT, _SIGNIFICANT = 0.5, 0.001
"""Largest share of the errors that is left with an input fault that explains them, and the largest p-value."""


STEADINESS = ("identity-equals-clean", "model-equals-itself", "answers-are-the-models")
"""Self-checks that put all values of a run in doubt. The others guard against a wrong pass."""


def named_check(check: Check) -> str:
    """Return a check with its family, as details of self-checks name it."""
    return f"check {check.id} of family {check.family!r}"


@record
class SelfCheck:
    """Result of a self-check; `fail` means that a pass of the run cannot be trusted.

    `check` is the id of the only check that a failure puts in doubt, if there is one. `cannot_notice` says that
    healthy thresholds are too lenient for the mutant, by arithmetic; that changes no status of the run. `cause` is the
    error that kept self-checks from running.
    """

    name: str
    status: Literal["pass", "fail", "not_applicable"]
    detail: str
    check: str = ""
    cannot_notice: bool = False
    cause: str = ""

    @property
    def reason(self) -> str:
        """Return why a run with this failed self-check is inconclusive, with its code."""
        return coded(Code.SELF_CHECK, f"self-check {self.name}: {self.detail}")

    def doubts(self, verdict: Verdict) -> bool:
        """Return whether a failed self-check puts the failure of a check in doubt."""
        concerns = self.name in STEADINESS or self.check == verdict.check.id
        return self.status == "fail" and concerns


@record
class InputFaults:
    """Correct predictions of `n` images, unchanged and with the `best` of so many input faults, `tried`.

    The images are of the consensus set, or any without panel predictions. `p` is McNemar's.
    """

    tried: int
    best: str
    n: int
    correct: int
    correct_with: int
    p: float

    @property
    def explain(self) -> bool:
        """Return whether the best fault mends most errors."""
        return (
            self.n - self.correct_with <= _LEFT * (self.n - self.correct) and self.p <= _SIGNIFICANT
        )


@record
class Differences:
    """Differences of a candidate from its original, or on images without labels from other models.

    `sentence` says how many predictions changed. `caution` says why equality to this original is worth little, or is
    empty. `faces` are changed images under a `title`. `pairs` are changes of class with their counts. `groups` are rows
    of a table: name, column, changed images, all images, correct predictions lost, and gained. Without labels, the
    counts are disagreements with the unanimous models, their images, predictions other than the incumbent's, and all
    images. `facts` say how these images differ from the test images.
    """

    sentence: str
    caution: str
    title: str = ""
    faces: tuple[Face, ...] = ()
    pairs: tuple[tuple[str, int], ...] = ()
    groups: tuple[tuple[str, str, int, int, int, int], ...] = ()
    facts: tuple[str, ...] = ()


@record
class OtherTest:
    """A test that no check stands for, or an error of one that a check stands for: its outcome, and what it said."""

    name: str
    outcome: str
    text: str = ""


@record
class Part:
    """Findings of one process of a run after its tests; workers send theirs, and their sum is a part of the outcome.

    Without an `overview` of the models, `overview_missing` may say why. `differences` are those from the original,
    `unlabeled` those on images without labels, and `slices` those in slices that nobody named.
    """

    self_checks: tuple[SelfCheck, ...] = ()
    overview: Overview | None = None
    overview_missing: str = ""
    differences: Differences | None = None
    unlabeled: Differences | None = None
    slices: Differences | None = None

    def __add__(self, other: Part) -> Part:
        return Part(
            self.self_checks + other.self_checks,
            self.overview or other.overview,
            self.overview_missing + other.overview_missing,
            self.differences or other.differences,
            self.unlabeled or other.unlabeled,
            self.slices or other.slices,
        )


@record
class FamilyCost:
    """Cost of a family's tests: seconds of all cores of the run's processes, and the images of its largest check.

    Predictions that families share cost the first one that asks.
    """

    cpu_seconds: float
    images: int


@record
class Outcome(Part):
    """All that a finished run knows: the content of `stress.json`. Every report is a function of it.

    `run` is its id. `errors` has the reasons of an inconclusive run, and `omissions` the parts that it did not cover.
    `failed_tests` are the failing tests without a check. `scope` names the parts that a complete run of the quick
    profile leaves out, and is empty for any other. `notices` are lines for every reader of the verdict. `provenance`
    names the reference models behind the thresholds, and `remarks` have further facts about them. `reference_curves`
    are those of the reference models behind the candidate's, by name, one for each model. `pictures` are those of
    checks, by id. `thumbnails` are images that the overview names, by number, and golden ones, by the id of their
    check. All images are addresses with their content. `history` has the earlier runs that a report shows, and this one
    last. A `brief` run makes no pictures, and its page has no figures. `folder` is where the run was started; paths
    within it are shown relative to it.
    """

    _: KW_ONLY
    verdicts: tuple[Verdict, ...]
    errors: tuple[str, ...]
    omissions: tuple[str, ...]
    failed_tests: tuple[str, ...]
    profile: str
    models: dict[str, dict[str, Any]]
    data: dict[str, Any]
    recipe: dict[str, Any]
    checks_sha256: str
    versions: dict[str, str]
    command: str
    run: str = ""
    scope: str = ""
    provenance: str = "of unknown origin"
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    reference_curves: dict[str, tuple[Curve, ...]] = field(default_factory=dict)
    pictures: dict[str, Pictures] = field(default_factory=dict)
    thumbnails: dict[str, str] = field(default_factory=dict)
    known: tuple[KnownIssue, ...] = ()
    """Issues that the team has accepted; they change no verdict."""
    day: date = field(default_factory=lambda: datetime.now(UTC).date())
    """The day of the run, UTC; known issues expire after their last day."""
    history: History | None = None
    attempt: int = 0
    """Number of different candidates that these checks have judged on these data, see `attempt_of`; 0 if unknown."""
    input_faults: InputFaults | None = None
    """Other pixels that were tried after a failure on clean images; None without one."""
    tests: tuple[OtherTest, ...] = ()
    stopped: str = ""
    """Where the run stopped, as a sentence; empty for a whole run."""
    costs: dict[str, FamilyCost] = field(default_factory=dict)
    """By family; a clock measures them, so equal runs differ in them."""
    brief: bool = False
    folder: str = ""

    def known_text(self, about: str) -> str:
        """Return the known issues of a check, by its id, or of an image, by `image N`, as text; empty without any."""
        return "; ".join(issue.said(self.day) for issue in self.known if issue.about == about)

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Return the checks that fail."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fail")

    @property
    def inconclusive(self) -> tuple[Verdict, ...]:
        """Return tolerances whose bounds cannot tell, unless another check of their family says that models differ."""
        differing = {verdict.check.family for verdict in self.failed}
        return tuple(
            verdict
            for verdict in self.verdicts
            if verdict.status == "inconclusive"
            and not verdict.is_open
            and verdict.check.family not in differing
        )

    @property
    def open_checks(self) -> tuple[Verdict, ...]:
        """Return the checks whose sample leaves open if the candidate keeps a threshold by hand."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_open)

    @property
    def judged(self) -> bool:
        """Return whether the candidate was compared with a threshold, or a test without a check failed."""
        return self._decided or any(
            not ROLES[verdict.check.role].precondition for verdict in self.open_checks
        )

    @property
    def _decided(self) -> bool:
        thresholds = [verdict.check for verdict in self.verdicts if verdict.judged]
        return bool(self.failed_tests) or any(
            not ROLES[check.role].precondition for check in thresholds
        )

    @property
    def informational(self) -> int:
        """Return the number of checks that were measured without a threshold."""
        return sum(verdict.status == "informational" for verdict in self.verdicts)

    @property
    def counts(self) -> str:
        """Return the number of checks with each status, as `33 checks: 1 pass, 23 informational, 9 not applicable`."""
        found: Counter[str] = Counter(verdict.status for verdict in self.verdicts)
        words = {status: _COUNTED.get(status, status.replace("_", " ")) for status in STATUSES}
        said = [f"{found[status]} {words[status]}" for status in STATUSES if found[status]]
        return (
            f"{len(self.verdicts)} check{'s' if len(self.verdicts) > 1 else ''}: {', '.join(said)}"
        )

    @property
    def self_checks_in_words(self) -> str:
        """Return how many self-checks pass, of those that apply to the run; empty where none does."""
        applicable = [check for check in self.self_checks if check.status != "not_applicable"]
        passing = sum(check.status == "pass" for check in applicable)
        return f"{passing} of {len(applicable)} self-checks pass" if applicable else ""

    @property
    def compared(self) -> int:
        """Return the number of checks whose measurement was compared with a threshold."""
        return sum(verdict.judged or verdict.status == "inconclusive" for verdict in self.verdicts)

    @property
    def failing_in_words(self) -> str:
        """Return how many checks, and other tests, fail, as `3 of 20 checks fail`; empty where none does."""
        if not (self.failed or self.failed_tests):
            return ""
        counts = [f"{len(self.failed)} of {self.compared} checks"] if self.compared else []
        if self.failed_tests:
            plural = "s" if len(self.failed_tests) > 1 else ""
            counts.append(f"{len(self.failed_tests)} other test{plural}")
        verb = "fails" if counts == ["1 other test"] else "fail"
        return f"{' and '.join(counts)} {verb}"

    @property
    def mostly_informational(self) -> bool:
        """Return whether fewer checks were judged than measured without a threshold."""
        return self.informational > sum(verdict.judged for verdict in self.verdicts)

    @property
    def provisional(self) -> bool:
        """Return whether a threshold that judged the candidate rests on one or two reference models."""
        checks = [verdict.check for verdict in self.verdicts if verdict.judged]
        return any(
            (check.panel.reference_models or SETTLED) < SETTLED
            for check in checks
            if check.panel and not check.hand
        )

    @property
    def verdict(self) -> Overall:
        """Return the run's verdict: an error outranks all, and a run that did not cover everything is partial.

        A failed self-check is an error, unless a check fails that it does not put in doubt: self-checks guard against a
        wrong pass.
        """
        if self.errors or any(verdict.status == "error" for verdict in self.verdicts):
            return "error"
        if self.unsound and not self.fails_in_earnest:
            return "error"
        if self.inconclusive or not self.judged:
            return "error"
        if self.omissions or self.open_checks:
            return "partial"
        return "fail" if self.failed or self.failed_tests else "pass"

    @property
    def unsound(self) -> tuple[SelfCheck, ...]:
        """Return the self-checks that fail."""
        return tuple(check for check in self.self_checks if check.status == "fail")

    @property
    def fails_in_earnest(self) -> bool:
        """Return whether a check or a test fails that no failed self-check puts in doubt."""
        doubted = [
            verdict
            for verdict in self.failed
            if any(check.doubts(verdict) for check in self.unsound)
        ]
        unsteady = any(check.name in STEADINESS for check in self.unsound)
        return len(doubted) < len(self.failed) or (bool(self.failed_tests) and not unsteady)

    @property
    def exit_status(self) -> int:
        """Return 0 when every check that ran holds, 1 when one does not, 4 when the run is inconclusive.

        A partial run has the status of the checks that it decided, and 4 if it decided none.
        """
        if self.verdict == "error" or not self._decided:
            return NOT_JUDGED
        return WORSE if self.failed or self.failed_tests else PASSED

    @property
    def headline(self) -> str:
        """Return the verdict in one sentence, with a caution about the original, if any."""
        families = dict.fromkeys(verdict.check.family for verdict in self.failed)
        worse = ", ".join([*map(family_in_words, families), *self.failed_tests])
        listed = f"; worse: {worse}" if self.verdict == "fail" else ""
        return f"{self._verdict_in_words}{listed}{self._caution}"

    @property
    def headline_in_brief(self) -> str:
        """Return the headline without the names of what fails, for a page that lists them."""
        return f"{self._verdict_in_words}{self._caution}"

    @property
    def _caution(self) -> str:
        caution = self.differences.caution if self.differences else ""
        return f". {caution}" if caution else ""

    @property
    def _verdict_in_words(self) -> str:
        passing = sum(verdict.status == "pass" for verdict in self.verdicts)
        passing_in_words = f"{passing} of {self.compared} checks pass"
        if self.verdict == "error" and self.inconclusive and not self.errors:
            some = some_of([verdict.check.id for verdict in self.inconclusive])
            return f"INCONCLUSIVE: {some}: these images cannot tell the candidate from its original"
        if self.verdict == "error":
            return INCONCLUSIVE
        only = "".join(f" ({batches})" for batches in self.batches)
        if self.verdict == "partial":
            undecided = some_of([verdict.check.id for verdict in self.open_checks])
            named = f"; undecided: {undecided}" if undecided else ""
            counted = self.failing_in_words or passing_in_words
            return f"PARTIAL{only}: {counted} of those that ran{named}; no verdict on the whole"
        quick = " (quick profile)" if self.scope else ""
        quick += " (stopped at the first certain failure)" if self.stopped else ""
        quick += " (provisional)" if self.provisional else ""
        quick += " (no incumbent)" if self.without_incumbent else ""
        quick += only
        if self.verdict == "fail":
            return f"FAIL{quick}: {self.failing_in_words}"
        many = f"; {self.informational} informational" if self.mostly_informational else ""
        return f"PASS{quick}: {passing_in_words}{many}"

    @property
    def batches(self) -> tuple[str, ...]:
        """Return the batches for which the verdict holds, by any model; empty for any batches."""
        models = [model for model in self.models.values() if model]
        return tuple(dict.fromkeys(model["batches"] for model in models if "batches" in model))

    @property
    def without_incumbent(self) -> bool:
        """Return whether a check with a threshold lacks an incumbent."""
        return any(
            each.without == INCUMBENT and each.check.binding is not None for each in self.verdicts
        )

    @property
    def derived(self) -> dict[str, Any]:
        """Return the facts in `stress.json` that a reader could derive from its other fields."""
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "provisional": self.provisional,
            "chance_of_a_pass": round(chance_of_a_pass(self.attempt), 4),
            "error_codes": [code_in(error) for error in self.errors],
        }

    def as_json(self) -> dict[str, Any]:
        """Return the content of `stress.json`."""
        plain: dict[str, Any] = records.as_plain(self)
        models, _ = plain.pop("models"), plain.pop("verdicts")
        return {
            "schema": SCHEMA,
            "protocol": PROTOCOL,
            "finished": True,
            "run": self.run,
            "profile": self.profile,
            "scope": self.scope,
            **self.derived,
            **{role: models.get(role) for role in ROLES},
            "checks": [verdict.as_json() for verdict in self.verdicts],
        } | plain

    def as_files(self) -> tuple[str, dict[str, bytes]]:
        """Return the text of `stress.json`, and the images that it names by their paths beside it."""
        images: dict[str, bytes] = {}
        plain = with_images(as_written(self.as_json()), lambda address: named(address, images))
        return json.dumps(plain, indent=1, default=str) + "\n", images


def as_written(value: Any) -> Any:
    """Return plain values with all texts as they can be written, see `writable`."""
    if isinstance(value, dict):
        return {writable(name): as_written(each) for name, each in value.items()}
    return (
        list(map(as_written, value))
        if isinstance(value, list)
        else writable(value)
        if type(value) is str
        else value
    )


def read_outcome(plain: dict[str, Any], read: Callable[[str], bytes], *, where: str) -> Outcome:
    """Return the outcome of a run from the content of its `stress.json`; `read` returns the image of a name.

    Raises `InputError` for a value of another type.
    """
    known = {
        each.name: plain[each.name]
        for each in fields(Outcome)
        if each.name not in {"models", "verdicts"}
    }
    known["models"] = {role: plain[role] for role in ROLES if plain[role] or role == "candidate"}
    known["verdicts"] = plain_verdicts(plain)
    return read_record(
        Outcome, with_images(known, lambda name: address_of(read(name))), where=where
    )


def plain_verdicts(plain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts in the content of `stress.json`, without what a reader would derive."""
    names = [each.name for each in fields(Verdict)]
    return [{name: entry[name] for name in names} for entry in plain["checks"]]


def worst_first(verdicts: tuple[Verdict, ...]) -> list[Verdict]:
    """Order verdicts for a reader: errors, failures by the distance from their threshold, then the rest."""
    return sorted(verdicts, key=urgency)


def urgency(verdict: Verdict) -> tuple[int, float]:
    """Return the sort key of a verdict: its status, and how far a failure misses its threshold."""
    missed_by = slack(verdict) if verdict.status == "fail" else None
    return STATUSES.index(verdict.status), missed_by or 0.0


def slack(verdict: Verdict) -> float | None:
    """Return how far a measurement lies on the good side of its threshold, in its `spread`; negative beyond it.

    None for a check without a verdict.
    """
    if not verdict.judged or verdict.value is None or verdict.threshold is None:
        return None
    known = verdict.check.reference
    sign = -1 if verdict.check.direction == "at_most" else 1
    return (
        sign
        * (verdict.value - verdict.threshold)
        / spread(verdict.threshold, known.std if known else None)
    )


def spread(threshold: float, std: float | None) -> float:
    """Return the unit of a margin: the reference models' standard deviation, or a hundredth of the threshold."""
    return std or max(abs(threshold) * 0.01, 1e-9)


def line_of(outcome: Outcome, *, at: datetime | None = None) -> Line:
    """Return the line of a run in the history; `at` is the time of its end, now by default."""
    measured = () if outcome.stopped else outcome.verdicts
    candidate = [verdict for verdict in measured if verdict.check.role == "candidate"]
    accuracies = [one for one in candidate if one.metric == "accuracy" and one.value is not None]
    robust = robust_verdict(outcome)
    moved = [one.value for one in accuracies if one.check.pose != IDENTITY and one.judged]
    clean = [
        one.value
        for one in accuracies
        if one.check.family == "clean" and one.check.pose == IDENTITY
    ]
    margins: dict[str, float] = {}
    for verdict in measured:
        if (found := margin(verdict)) is not None:
            family = verdict.check.family
            margins[family] = min(round(found, 2), margins.get(family, FARTHEST))
    return Line(
        candidate=outcome.models["candidate"]["sha256"],
        at=(at or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0),
        schema=HISTORY_SCHEMA,
        path=writable(outcome.models["candidate"]["path"]),
        verdict=outcome.verdict,
        profile=outcome.profile,
        data=str(outcome.data["sha256"]),
        checks=outcome.checks_sha256,
        judged=outcome.compared,
        failing=tuple(verdict.check.id for verdict in outcome.failed) + outcome.failed_tests,
        clean=clean[0] if clean else None,
        worst_pose=min((value for value in moved if value is not None), default=None),
        robust_accuracy=robust.value if robust else None,
        margins=margins,
        data_name=str(outcome.data["name"]),
        stopped=bool(outcome.stopped),
    )


def line_of_incumbent(outcome: Outcome) -> Line | None:
    """Return the latest run of the incumbent, another model, with the same checks on the same data; None for none."""
    incumbent, candidate = outcome.models.get(INCUMBENT), outcome.models.get("candidate")
    if (
        not (outcome.history and incumbent and candidate)
        or incumbent["sha256"] == candidate["sha256"]
    ):
        return None
    asked = incumbent["sha256"], outcome.checks_sha256, str(outcome.data["sha256"]), outcome.profile
    whole = [line for line in outcome.history.lines if not line.stopped]
    same = [
        line for line in whole if (line.candidate, line.checks, line.data, line.profile) == asked
    ]
    return same[-1] if same else None


def robust_verdict(outcome: Outcome) -> Verdict | None:
    """Return the verdict on the candidate's robust accuracy over the augmentation range; None if it has no value."""
    for verdict in outcome.verdicts:
        asked = verdict.metric, verdict.check.keys.get("grid"), verdict.check.role
        if (
            asked == ("robust_accuracy", "augmentation-range", "candidate")
            and verdict.value is not None
        ):
            return verdict
    return None


def margin(verdict: Verdict) -> float | None:
    """Return how far a measurement lies on the good side of its threshold, in standard deviations of reference models.

    Without known reference models, the unit is a hundredth of the threshold. The margin is negative for a check that
    fails, at least 0 for one that passes, and at most 99 either way. None for a check without a verdict.
    """
    if (away := slack(verdict)) is None:
        return None
    away = min(max(away, -FARTHEST), FARTHEST)
    return max(away, 0.0) if verdict.status == "pass" else min(away, 0.0)
