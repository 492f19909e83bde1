"""A verdict as an in-toto statement, https://in-toto.io/Statement/v1, with the predicate test-result v0.1."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.files import hash_of_file
from harness.base.outputs import Kind
from harness.report.signs import rare, signs

if TYPE_CHECKING:
    from harness.run.outcome import Outcome

TYPE, PREDICATE = "https://in-toto.io/Statement/v1", "https://in-toto.io/attestation/test-result/v0.1"
STATEMENT = Kind(
    "a statement of the harness",
    rb'\s*\{\s*"_type"\s*:\s*"https://in-toto\.io/Statement.*?"predicateType"\s*:\s*"'
    + re.escape(PREDICATE.encode())
    # The rest is what other tools that state the result of a test do not have.
    + rb'".*?"configuration"\s*:.*?"name"\s*:\s*"stress\.json"',
)


def statement(outcome: Outcome | None, record: bytes, model: Path | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return the statement on a run, or None and the reason.

    `record` is the content of its `stress.json`, and `model` the file of its candidate, if it has moved. A pass with a
    caution is WARNED: with signs of a weaker model, with provisional thresholds, or equal to a doubtful original.
    """
    if outcome is None or outcome.verdict not in {"pass", "fail"}:
        said = "inconclusive" if outcome is None or outcome.verdict == "error" else str(outcome.verdict)
        return None, f"the run is {said}; expected a whole run that passes or fails"
    if outcome.stopped:
        return None, f"the run {outcome.stopped}; expected a whole run. Run the gate without stop"
    candidate = outcome.models["candidate"]
    path = model or Path(outcome.folder, candidate["path"])
    if (found := hash_of_file(path) if path.is_file() else None) is None:
        return None, f"{path} is no file; name the model's file with --model. A served model has none"
    if found != candidate["sha256"]:
        return None, (
            f"{path} has the SHA-256 {found[:12]}…, and the run judged {candidate['sha256'][:12]}…; it has changed "
            "since, or the model is read from several files. Run the gate again, on one file"
        )
    caution = outcome.provisional or bool(outcome.differences and outcome.differences.caution)
    weaker = [verdict.check.id for _, verdict in rare(outcome.verdicts)[1]]
    passed = "WARNED" if caution or signs(outcome) else "PASSED"
    predicate = {
        "result": passed if outcome.verdict == "pass" else "FAILED",
        "configuration": _configuration(outcome, record),
        "passedTests": [verdict.check.id for verdict in outcome.verdicts if verdict.status == "pass"],
        "warnedTests": weaker,
        "failedTests": [*(verdict.check.id for verdict in outcome.failed), *outcome.failed_tests],
    }
    subject = [{"name": path.name, "digest": {"sha256": found}}]
    return {"_type": TYPE, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}, ""


def _configuration(outcome: Outcome, record: bytes) -> list[dict[str, Any]]:
    """Return descriptors of what the run judged by, each with its SHA-256, and of the record of the run itself."""
    data, panel = outcome.data, outcome.recipe
    said = {"profile": outcome.profile, "harness": outcome.versions.get("harness", ""), "headline": outcome.headline}
    digests = {
        "checks": outcome.checks_sha256,
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
        {"name": name, "digest": {"sha256": digest}, **({"annotations": about[name]} if name in about else {})}
        for name, digest in digests.items()
        if digest
    ]
