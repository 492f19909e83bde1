"""What the tests of a run report, in whichever process they ran, and the outcome that it comes to."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from harness.errors import some_of, without_secrets
from harness.gates.roles import ROLES
from harness.measures import METRICS, Unit
from harness.run.examples import spoken_of, thumbnails_of
from harness.run.outcome import Outcome, SelfCheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from harness.gates import Gate, GatesFile, Verdict
    from harness.run.overview import Overview
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


_LONGEST = 300
"""Characters of a test's name that are shown: one with parameters may be of any length."""


@dataclass
class Reported:
    """Gathers what the tests of a run report, what the run finds when it checks itself, and what it measures besides.

    `verdicts` and `examples`, pictures as HTML, are by the id of the gate's row. `has_gates` says whether a test of a
    gate came up, though it may have been skipped.
    """

    has_gates: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    failed_tests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    self_checks: tuple[SelfCheck, ...] = ()
    overview: Overview | None = None
    overview_missing: str = ""
    examples: dict[str, str] = field(default_factory=dict)
    consensus_pictures: dict[str, list[str]] = field(default_factory=dict)
    _tests: dict[str, str] = field(default_factory=dict)
    _shares: dict[str, float] = field(default_factory=dict)

    def take(self, verdict: Verdict, *, test: str) -> None:
        """Take the verdict of a test; that of a second test under the same name is an error."""
        row = verdict.gate.id
        if (other := self._tests.setdefault(row, test)) != test:
            self.errors.append(
                f"{row}: two tests have a verdict of this name, {other} and {test}; name a metric in their "
                "`@gate(family, metric=...)`, a family of its own for one, or the row otherwise"
            )
        family, share = verdict.gate.family, verdict.gate.share
        if verdict.value is not None and self._shares.setdefault(family, share) != share:
            self.errors.append(
                f"{row}: workers chose other samples of family {family} to fit into the time; run the gate without "
                "workers, or calibrate with --budget"
            )
        self.verdicts[row] = verdict
        if verdict.status == "error":
            self.errors.append(verdict.explain())

    def take_failure(self, message: str, *, test: str, called: bool) -> None:
        """Take the failure of a test that has no verdict: of what it asserts when it is called, or else an error."""
        test = test if len(test) <= _LONGEST else f"{test[:_LONGEST]}…"
        if called and message.startswith(("AssertionError", "assert ")):
            self.failed_tests.append(test)
        else:
            self.errors.append(f"{test}: {message.splitlines()[0] if message else 'failed'}")

    def __bool__(self) -> bool:
        """Return whether there is anything to report."""
        return bool(self.has_gates or self.errors or self.failed_tests)


def outcome_of(
    reported: Reported,
    session: StressSession,
    *,
    profile: str,
    command: Sequence[str],
    default: GatesFile | None = None,
) -> Outcome:
    """Return the outcome of a run of this session: its verdicts in the order of the rows, and what it left out.

    `command` is how the run was started, `default` the gates file of the default profile, which a run by gates made
    for a sample says its own of.
    """
    gates, images = session.gates, session.images
    order = {gate.id: position for position, gate in enumerate(gates.gates)}
    verdicts = sorted(reported.verdicts.values(), key=lambda item: (order.get(item.gate.id, len(order)), item.gate.id))
    return Outcome(
        verdicts=tuple(verdicts),
        errors=tuple(reported.errors),
        self_checks=reported.self_checks,
        omissions=tuple(_omissions(reported, verdicts, session)),
        failed_tests=tuple(reported.failed_tests),
        profile=profile,
        scope=_scope(gates, default),
        models={role: model.as_json() for role, model in session.roles.items()},
        data={
            "name": images.name,
            "split": images.split,
            "sha256": gates.data.sha256,
            "n": len(images),
            "classes": list(images.classes),
            **({"pipeline": images.pipeline} if images.pipeline else {}),
        },
        recipe=gates.recipe,
        provenance=session.provenance,
        remarks=(*_loaded(session), *_dropped(session), *images.notes, *_mixed(session, verdicts)),
        gates_sha256=gates.sha256,
        versions=_versions(),
        command=shlex.join(command),
        overview=reported.overview,
        overview_missing=reported.overview_missing,
        examples=reported.examples,
        consensus_pictures=reported.consensus_pictures,
        thumbnails=_thumbnails(session, reported.overview),
    )


def _thumbnails(session: StressSession, overview: Overview | None) -> dict[int | str, np.ndarray]:
    """Return the pictures of golden images, by their gates' ids, and of those that the overview names, by number."""
    found: dict[int | str, np.ndarray] = {}
    if session.golden is not None:
        pixels = session.golden.pixels.permute(0, 2, 3, 1).numpy()
        found.update(zip((image.id for image in session.gates.golden), pixels, strict=True))
    if overview is not None and (numbers := spoken_of(overview)):
        found.update(thumbnails_of(session.images, numbers))
    return found


def _loaded(session: StressSession) -> list[str]:
    """Say of each model, where there was a choice, which of its file's tensors it was filled with."""
    return [f"{role} {model.path}: {model.note}" for role, model in session.roles.items() if model.note]


def _mixed(session: StressSession, verdicts: Sequence[Verdict]) -> list[str]:
    """Say of a cluster of several kinds of processors how close the verdict comes to what these may change."""
    if session.cluster is None or len(session.cluster.kinds) <= 1:
        return []
    from harness.inference.platforms import mixed

    margins = [(each.gate.id, margin) for each in verdicts if (margin := _margin(each)) is not None]
    return [mixed(session.cluster.kinds, margins)]


def _margin(verdict: Verdict) -> float | None:
    """Return how far a share is from its bound; None where there is no bound, or no share."""
    if verdict.value is None or verdict.limit is None or not verdict.judged:
        return None
    metric = METRICS.get(verdict.metric)
    return abs(verdict.value - verdict.limit) if metric and metric.unit is Unit.SHARE else None


def _dropped(session: StressSession) -> list[str]:
    """Say which rows the incumbent was accepted by that the gates file at hand lacks."""
    incumbent = session.roles.get("incumbent")
    acceptance = (incumbent.record.acceptance if incumbent and incumbent.record else None) or {}
    now = {gate.id for gate in session.gates.gates}
    gone = [str(name) for name in acceptance.get("gates", ()) if name not in now]
    if not gone or acceptance.get("profile") != ("quick" if session.gates.data.sample is not None else "default"):
        return []
    return [
        f"{len(gone)} gates that the currently shipped model (incumbent) was accepted by are not in "
        f"{session.gates.path}: {some_of(gone)}"
    ]


def refusal_of(request: RunRequest | None, reasons: Sequence[str], *, command: Sequence[str]) -> Outcome:
    """Return the outcome of a run that ended before anything was loaded, for these reasons.

    Without a request it is one whose command line could not be read.
    """
    checkpoints = request.checkpoints if request else {}
    name = without_secrets(request.data) if request else ""
    return Outcome(
        verdicts=(),
        errors=tuple(reasons),
        omissions=(),
        failed_tests=(),
        profile=request.profile if request else "",
        models={role: {"path": str(path), "sha256": "", "architecture": ""} for role, path in checkpoints.items()},
        data={"name": name, "split": "", "sha256": "", "n": 0, "classes": []},
        recipe={},
        gates_sha256="",
        versions=_versions(),
        command=shlex.join(command),
    )


def _versions() -> dict[str, str]:
    names = {"torch": "torch", "hypothesis": "hypothesis", "harness": "stress-harness"}
    return {"python": platform.python_version(), **{name: version(package) for name, package in names.items()}}


def _omissions(reported: Reported, verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    """Say what a run did not cover, each of which makes its verdict partial."""
    omissions = _unmeasured(session.gates.gates, [verdict.gate for verdict in verdicts])
    if reported.interrupted:
        omissions.append("the run was interrupted, and did not check itself")
    elif not reported.self_checks and not session.recording:
        omissions.append("the run did not check itself")
    judged = [verdict.gate for verdict in verdicts if verdict.judged]
    if all(ROLES[gate.role].precondition for gate in judged):
        omissions.append(f"no bound of {session.gates.path} was held against the candidate")
    if others := [verdict.gate.id for verdict in verdicts if _on_other_images(verdict, session)]:
        omissions.append(f"other images than their bounds are made for: {some_of(others)}; calibrate them anew")
    if lacking := [verdict.gate.id for verdict in verdicts if verdict.lacking and verdict.gate.threshold]:
        omissions.append(
            f"bounds on what retrained reference models know, which was not recorded of these images: "
            f"{some_of(lacking)}; calibrate them anew"
        )
    omissions += _sampled(verdicts) if session.share == 1 else []
    if session.share != 1:
        made_for = session.gates.data
        sample = "" if made_for.sample is None else f"; the gates are made for a sample of {made_for.sample}"
        omissions.append(f"{len(session.images)} of {made_for.n} images were measured{sample}")
    return omissions


def _unmeasured(rows: Sequence[Gate], measured: Sequence[Gate]) -> list[str]:
    """Say which rows no test measured; a test that has no row may have the name of one of another family."""
    took, families = {gate.definition for gate in measured}, {gate.family for gate in measured}
    missing = [gate for gate in rows if gate.definition not in took]
    if not missing:
        return []
    said = f"{len(missing)} of {len(rows)} gates did not run: {some_of([gate.id for gate in missing])}"
    without = dict.fromkeys(gate.family for gate in missing if gate.family not in families)
    return [f"{said}; no test ran of family {some_of(list(without))}" if without else said]


def _sampled(verdicts: Sequence[Verdict]) -> list[str]:
    """Say which families were measured on fewer images than their bounds were made for, to fit into a time."""
    shares = {verdict.gate.family: verdict.gate.share for verdict in verdicts if verdict.gate.share < 1}
    if not shares:
        return []
    said = some_of([f"{family} ({share:.0%})" for family, share in shares.items()], shown=20)
    return [
        f"to fit into the time given, some families were measured on a share of their images: {said}; `python -m "
        "harness calibrate --budget` makes bounds for samples that fit"
    ]


def _on_other_images(verdict: Verdict, session: StressSession) -> bool:
    """Return whether a gate's test left out images that its bound was made for, in a run that left out none.

    More of them than that, of which no bound is known, are the thorough profile's business alone.
    """
    bound = verdict.gate.threshold
    if bound is None or not bound.n or verdict.limit is None or not session.share == verdict.gate.share == 1:
        return False
    return verdict.n < bound.n or (verdict.n > bound.n and not session.thorough)


def _scope(gates: GatesFile, default: GatesFile | None) -> str:
    """Say what gates made for a sample leave out of the default profile; empty for other gates."""
    if gates.data.sample is None:
        return ""
    count = len(gates.gates)
    measured = f"quick profile: {count} gates, made for a sample of {gates.data.sample} of {gates.data.n} images"
    left_out = "the comparison of the models"
    if default is not None:
        others = {gate.id for gate in default.gates} - {gate.id for gate in gates.gates}
        families = [name for name in dict.fromkeys(gate.family for gate in default.gates) if not gates.family(name)]
        among = f" (all of {', '.join(families)})" if families else ""
        left_out = f"{len(others)} of the default profile's {len(default.gates)} gates{among} and {left_out}"
    return f"{measured}; left out are {left_out}"
