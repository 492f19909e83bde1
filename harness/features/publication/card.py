"""A verdict as a part of a model card of Hugging Face.

The metrics of `model-index`, and a section with a table.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, said_of
from harness.base.files import read_regular
from harness.base.markdown import plain
from harness.base.outputs import OutputKind
from harness.checks.families import family_title
from harness.report.signs import signs
from harness.report.wording import SIGNS, candidate_name, measured_and_required
from harness.run.headline import headline
from harness.run.margins import margin
from harness.run.status import SUMMARY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

CARD = OutputKind("a model card", rb"")
_MAX_BYTES = 64 << 20
_MARKS = {"front": ("# stress-harness: begin", "# stress-harness: end")}
_MARKS["section"] = ("<!-- stress-harness: begin -->", "<!-- stress-harness: end -->")
_FRONT = re.compile(
    r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE
)
_BLOCK = re.compile(
    r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:\Z|[^\s#{}\[\],&*!|>%@`?-][^\n]*?:(?:\s|\Z)(?!.*^\.\.\.\s))",
    re.DOTALL | re.MULTILINE,
)
"""The beginning of a front matter with a line for each key, where another line may follow."""


def model_index(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the content of `model-index`: one task, the data and metrics.

    The revision of the data is its SHA-256. Metrics are the check of each family of the candidate
    that is nearest to failing, and clean accuracy.
    """
    data = outcome.inputs.data
    dataset = {
        "name": data["name"],
        "type": data["name"],
        "split": data["split"],
        "revision": data["sha256"],
    }
    metrics = [
        {
            "type": verdict.metric,
            "value": verdict.value,
            "name": f"{verdict.metric} ({verdict.check.id})",
        }
        for verdict in _shown(outcome)
    ]
    result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
    name = candidate_name(outcome).rpartition(".")[0] or candidate_name(outcome)
    return [{"name": name, "results": [result]}]


def section(outcome: Outcome) -> str:
    """Return the section of the card: the verdict, a table, and the hashes of what it is about."""
    lines = [
        "## Stress tests",
        "",
        f"**{plain(headline(outcome))}.** {outcome.run.day.isoformat()}, profile "
        f"{outcome.run.profile}.",
        *(f"- {plain(sign)}" for sign in signs(outcome)),
        "",
        "| behavior | check | measured | threshold | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for verdict in _shown(outcome):
        value, threshold = measured_and_required(verdict)
        behavior = family_title(verdict.check.family)
        cells = (behavior, verdict.check.id, value, threshold, SIGNS[verdict.status])
        lines.append(f"| {' | '.join(map(plain, cells))} |")
    hashes = {
        "model": outcome.inputs.models["candidate"]["sha256"],
        "data": outcome.inputs.data["sha256"],
    }
    said = ", ".join(
        f"{name} `{value}`"
        for name, value in (hashes | {"checks": outcome.inputs.checks_sha256}).items()
    )
    return "\n".join(
        [*lines, "", f"Each row is the check of its behavior nearest to failing. SHA-256: {said}."]
    )


def _shown(outcome: Outcome) -> list[Verdict]:
    """Return a check of each family of the candidate.

    Clean accuracy comes first, then the checks nearest to failing.
    """
    own = [
        verdict
        for verdict in outcome.results.verdicts
        if verdict.check.role == "candidate"
        and verdict.value is not None
        and math.isfinite(verdict.value)
    ]
    found = {
        "": next(
            (each for each in own if each.check.family == "clean" and each.metric == "accuracy"),
            None,
        )
    }
    for verdict in sorted(
        (each for each in own if each.judged), key=lambda each: margin(each) or 0.0
    ):
        found.setdefault(verdict.check.family, verdict)
    return list({each.check.id: each for each in found.values() if each is not None}.values())


def text_of(path: Path | None) -> str:
    """Return the text of a model card, empty for none.

    Raises:
        InputError: For one that cannot be read.
    """
    if path is None:
        return ""
    try:
        name = path.resolve().name
        if not name.lower().endswith(".md") or name == SUMMARY:
            raise InputError(
                f"{path}: expected a model card, a Markdown file (.md) that is no report of the "
                "harness"
            )
        return read_regular(path, max_bytes=_MAX_BYTES).decode() if path.exists() else ""
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a model card in UTF-8 ({said_of(error)})"
        ) from None


def inserted(card: str, index: list[dict[str, Any]], text: str, *, where: str) -> str:
    """Return a card with `model-index` in its front matter, and with a section.

    The section stands at its marks, or else at the end. No other text changes. Raises `InputError`
    for a `model-index` without marks, for a mark without the other, and for front matter to which
    no line can be added.
    """
    end = "\r\n" if card.partition("\n")[0].endswith("\r") else "\n"
    found = _FRONT.match(card)
    mark = "\ufeff" if card.startswith("\ufeff") else ""
    first, front, last = found.groups() if found else (f"{mark}---{end}", "", f"---{end}")
    rest = card[found.end() if found else len(mark) :]
    if not _BLOCK.match(front):
        raise InputError(
            f"{where}: its front matter is no mapping with a line for each key; write it as `key: "
            "value`"
        )
    written = "model-index: " + json.dumps(index, ensure_ascii=False, allow_nan=False)
    # YAML 1.1 reads 1e-05 as a text, and 1.0e-05 as a number.
    written = re.sub(r'("value": -?\d+)(e)', r"\1.0\2", written)
    front = _between(front, _MARKS["front"], written, where, end)
    outside = front.replace(written, "")
    if re.search(r"^['\"]?model-index['\"]?\s*:", outside, re.MULTILINE):
        raise InputError(
            f"{where}: its front matter has a model-index that this command did not write; a card "
            "has one. Remove it, or print the section without --into and merge both by hand"
        )
    last = last if last.endswith("\n") else last + end
    return f"{first}{front}{last}{_between(rest, _MARKS['section'], text, where, end)}"


def _between(text: str, marks: tuple[str, str], new: str, where: str, newline: str) -> str:
    """Return a text with new content between the marks, which are lines.

    At its end if it has none.
    """
    begin, end = marks
    made = f"{begin}\n{new}\n{end}\n".replace("\n", newline)
    if (text.count(begin), text.count(end)) == (0, 0):
        gap = "" if not text or text.endswith("\n") else newline
        return text + gap + (newline if begin.startswith("<") and text else "") + made
    before, _, after = text.partition(begin)
    _, closed, after = after.partition(end)
    if (text.count(begin), text.count(end)) != (1, 1) or not closed:
        raise InputError(
            f"{where}: expected one mark {begin} before one mark {end}; correct or remove them"
        )
    return before + made + re.sub(r"\A\r?\n", "", after)
