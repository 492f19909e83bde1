"""A verdict as an in-toto statement with the predicate test-result v0.1.

See https://in-toto.io/Statement/v1.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import said_of
from harness.base.features import listed
from harness.base.files import hash_of_file
from harness.base.outputs import OutputKind
from harness.report.signs import rare, signs
from harness.run.headline import headline

if TYPE_CHECKING:
    from harness.run.outcome import Outcome

TYPE, PREDICATE = (
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/attestation/test-result/v0.1",
)
_MAX_BYTES = 16 << 30
"""Size of the largest model that is hashed: a record from elsewhere may name any file."""
STATEMENT = OutputKind(
    "a statement of the harness",
    rb'\s*\{\s*"_type"\s*:\s*"https://in-toto\.io/Statement.*?"predicateType"\s*:\s*"'
    + re.escape(PREDICATE.encode())
    # The rest is what other tools that state the result of a test do not have.
    + rb'".*?"configuration"\s*:.*?"name"\s*:\s*"stress\.json"',
)


def statement(
    outcome: Outcome | None, record: bytes, model: Path | None = None
) -> tuple[dict[str, Any] | None, str]:
    """Return the statement on a run, or None and the reason.

    `record` is the content of its `stress.json`, and `model` the file of its candidate, if it has
    moved. A pass is WARNED if the gate warned its readers, see `_warned`.
    """
    if outcome is None or outcome.verdict not in {"pass", "fail"}:
        said = (
            "inconclusive"
            if outcome is None or outcome.verdict == "error"
            else str(outcome.verdict)
        )
        return None, f"the run is {said}; expected a whole run that passes or fails"
    if outcome.run.stopped:
        return (
            None,
            f"the run {outcome.run.stopped}; expected a whole run. Run the gate without stop",
        )
    candidate = outcome.inputs.models["candidate"]
    path = model or Path(outcome.run.folder, candidate["path"])
    try:
        found = hash_of_file(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        return None, f"{path} cannot be read ({said_of(error)}); name the model's file with --model"
    if found is None:
        return (
            None,
            f"{path} is no file; name the model's file with --model. A served model has none",
        )
    if found != candidate["sha256"]:
        return None, (
            f"{path} has the SHA-256 {found[:12]}…, and the run judged "
            f"{candidate['sha256'][:12]}…; it has changed since, or the model is read from "
            "several files. Run the gate again, on one file"
        )
    weaker = [verdict.check.id for _, verdict in rare(outcome.results.verdicts)[1]]
    passed = "WARNED" if _warned(outcome) else "PASSED"
    predicate = {
        "result": passed if outcome.verdict == "pass" else "FAILED",
        "configuration": _configuration(outcome, record),
        "passedTests": [
            verdict.check.id for verdict in outcome.results.verdicts if verdict.status == "pass"
        ],
        "warnedTests": weaker,
        "failedTests": [
            *(verdict.check.id for verdict in outcome.results.failed),
            *outcome.results.failed_tests,
        ],
    }
    subject = [{"name": path.name, "digest": {"sha256": found}}]
    return {
        "_type": TYPE,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": predicate,
    }, ""


def _warned(outcome: Outcome) -> bool:
    """Return whether the gate qualifies a pass.

    It does so in its headline, by a notice, by a note of a feature, or by signs of a weaker model.
    The headline names provisional thresholds, the quick profile, a missing incumbent and a doubtful
    original.
    """
    results = outcome.results
    in_headline = (
        results.provisional,
        outcome.run.scope,
        results.without_incumbent,
        outcome.cautions,
    )
    if any(in_headline) or results.notices:
        return True
    return bool(listed("stress_notes", outcome=outcome) or signs(outcome))


def _configuration(outcome: Outcome, record: bytes) -> list[dict[str, Any]]:
    """Return descriptors of the run's inputs and of its record, each with its SHA-256."""
    data, panel = outcome.inputs.data, outcome.inputs.recipe
    said = {
        "profile": outcome.run.profile,
        "harness": outcome.run.versions.get("harness", ""),
        "headline": headline(outcome),
    }
    digests = {
        "checks": outcome.inputs.checks_sha256,
        "panel": panel.get("panel_sha256"),
        "panel-predictions": panel.get("panel_predictions_sha256"),
        "data": data["sha256"],
        "stress.json": hashlib.sha256(record).hexdigest(),
    }
    about = {
        "panel": {"file": panel.get("panel")},
        "data": {"name": data["name"], "split": data["split"], "n": data["n"]},
        "stress.json": said,
    }
    return [
        {
            "name": name,
            "digest": {"sha256": digest},
            **({"annotations": about[name]} if name in about else {}),
        }
        for name, digest in digests.items()
        if digest
    ]
