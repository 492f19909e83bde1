"""The reports of a run without a verdict, and the claim of a run on their folder.

The reports in a claimed folder refuse the run until its outcome replaces them. The module needs the
standard library alone, since any package may be what failed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code, code_in
from harness.base.errors import InputError, OutputError, printable, reason, writable
from harness.base.features import record_keys
from harness.base.files import FolderBusyError, held, is_held
from harness.base.markdown import code, plain, relative
from harness.base.outputs import (
    REPORT_JSON,
    REPORT_MARKDOWN,
    REPORT_PAGE,
    REPORT_PICTURE,
    Output,
    write_together,
)
from harness.run.handover import new_run_id
from harness.run.status import (
    INCONCLUSIVE,
    PAGE,
    PICTURES,
    REPORT,
    SCHEMA,
    SUMMARY,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROTOCOL = 1
"""As in `harness.perturb`, which needs packages."""
ROLES = ("candidate", "baseline", "incumbent", "original")
"""Roles that have an entry in every `stress.json`."""
TITLE = "Model quality gate"
"""The title of a report, behind its verdict and candidate."""
_LISTS = (
    "omissions",
    "notices",
    "failed_tests",
    "known",
    "self_checks",
    "checks",
    "remarks",
    "tests",
)
"""Keys of a record that hold a list, empty in a refusal."""
_TABLES = ("reference_curves", "pictures", "thumbnails", "costs")
"""Keys of a record that hold a table, empty in a refusal."""
_STYLE = Path(__file__).parent / "templates/report.css"
_SHOWN = 10
"""Reasons that the summary shows."""
UNFINISHED = f"[{Code.CRASH}] the run did not finish; run the gate again"
"""The reason of every refusal until a better one is known."""
_KINDS = {PAGE: REPORT_PAGE, SUMMARY: REPORT_MARKDOWN, REPORT: REPORT_JSON}
"""The reports in the order in which an outcome replaces them; a refusal replaces them in reverse.

The record is therefore the first to refuse a run and the last to show its outcome.
"""


def mark_of_summary(run: str, verdict: str) -> str:
    """Return the line of `stress.md` that names the run and its verdict."""
    return f"- run: `{_id(run)}`, verdict `{_id(verdict)}`"


def mark_of_page(run: str, verdict: str) -> str:
    """Return the attributes of an element of `stress.html` that name the run and its verdict."""
    return f'data-run="{_id(run)}" data-verdict="{_id(verdict)}"'


def _id(text: str) -> str:
    """Return the letters and digits of an id: a record from elsewhere may have any text there."""
    return "".join(character for character in text if character.isalnum())


def refusal(
    reasons: Sequence[str],
    command: Sequence[str],
    *,
    run: str = "",
    profile: str = "",
    models: Mapping[str, str] = {},
    data: str = "",
) -> dict[str, Any]:
    """Return the record of a run without a verdict, in which unknown values are empty.

    Args:
        reasons: Why there is no verdict.
        command: How the run was started.
        run: The id of the run.
        profile: The profile, as given.
        models: Paths of the models by role.
        data: The data, as given.
    """
    entries = {
        role: {"path": path, "sha256": "", "architecture": ""} for role, path in models.items()
    }
    folder = ""
    with suppress(OSError):
        folder = str(Path.cwd())

    return {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "finished": False,
        "run": run,
        "profile": profile,
        "scope": "",
        "verdict": "error",
        "headline": INCONCLUSIVE,
        "provisional": False,
        "attempt": 0,
        "chance_of_a_pass": 0.0,
        **{role: entries.get(role) for role in (*ROLES, *entries)},
        "data": {"name": data, "split": "", "sha256": "", "n": 0, "classes": []},
        "recipe": {},
        "provenance": "of unknown origin",
        "checks_sha256": "",
        "versions": versions(),
        "errors": list(reasons),
        "error_codes": [code_in(reason) for reason in reasons],
        **{name: [] for name in _LISTS},
        **{name: {} for name in _TABLES},
        **dict.fromkeys(
            ("overview", "history", "input_faults", "environment", *_keys_of_features())
        ),
        **dict.fromkeys(("overview_missing", "stopped"), ""),
        "day": datetime.now(UTC).date().isoformat(),
        "brief": True,
        "command": shlex.join(map(str, command)),
        "folder": folder,
    }


def _keys_of_features() -> list[str]:
    """Return the keys that features add to a record; none if a feature is what failed."""
    try:
        return sorted(record_keys())
    except Exception:
        return []


def refused_reports(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Return all three reports of a refusal by their names, the record first."""
    models = {
        role: entry["path"]
        for role, entry in record.items()
        if isinstance(entry, dict) and "path" in entry
    }
    reports = {
        REPORT: json.dumps(record, indent=1) + "\n",
        SUMMARY: _refused_summary(record, models),
        PAGE: _refused_page(record, models),
    }
    return {name: writable(content).encode() for name, content in reports.items()}


def _refused_page(record: Mapping[str, Any], models: Mapping[str, str]) -> str:
    """Return the page of a refusal; `models` are paths by role."""
    releases = [f"{name} {release}" for name, release in record["versions"].items()]
    return bare_page(
        run=record["run"],
        verdict="error",
        sentence="No verdict: this run is inconclusive.",
        headline=INCONCLUSIVE,
        reasons=record["errors"],
        facts={
            **models,
            "data": record["data"]["name"],
            "reproduce": record["command"],
            "versions": ", ".join(releases),
        },
    )


def _refused_summary(record: Mapping[str, Any], models: Mapping[str, str]) -> str:
    """Return the summary of a refusal in Markdown; `models` are paths by role."""
    reasons = record["errors"]
    reason_lines = [f"- **inconclusive**: {plain(reason)}" for reason in reasons[:_SHOWN]]
    more = len(reasons) - _SHOWN
    if more > 0:
        reason_lines.append(f"- **inconclusive**: {more} more, listed in {PAGE}")

    judged = [f"- {plain(role)}: {code(path)}" for role, path in models.items()]
    data = record["data"]["name"]
    if data:
        judged.append(f"- data: {plain(data)}")
    judged.append(mark_of_summary(record["run"], "error"))

    blocks = [
        [f"## ❌ {TITLE}: {INCONCLUSIVE}"],
        reason_lines,
        ["What was judged:", "", *judged],
        [f"Reproduce: {code(record['command'])}"],
    ]
    text = "\n\n".join("\n".join(block) for block in blocks) + "\n"
    return relative(text, record["folder"])


def bare_page(
    *,
    run: str,
    verdict: str,
    sentence: str,
    headline: str,
    facts: Mapping[str, str],
    reasons: Sequence[str] = (),
    said: Sequence[str] = (),
) -> str:
    """Return a whole page from plain text, without templates: a box, paragraphs, a table.

    Args:
        run: The id of the run.
        verdict: The verdict, which colors the box at the top.
        sentence: The verdict as text, first in the box.
        headline: The headline, last in the box.
        facts: The rows of the table: what was judged, by its name.
        reasons: The reasons of the verdict, in the box between sentence and headline.
        said: Further paragraphs, below the box.
    """
    style = ""
    with suppress(OSError):
        style = _STYLE.read_text("utf-8")

    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    in_box = _paragraphs(reasons)
    below = _paragraphs(said)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><header><h1>{TITLE}</h1></header><main class="stress">'
        f'<div class="headline {verdict}" {mark_of_page(run, verdict)}>'
        f"<strong>{_text(sentence)}</strong>{in_box}"
        f'<span>{_text(headline)}</span></div>{below}<section class="section">'
        "<h2>What was judged, and how to do it again</h2>"
        f'<div class="scroll"><table>{rows}</table></div>'
        "</section></main></body></html>\n"
    )


def _paragraphs(lines: Sequence[str]) -> str:
    """Return each line as a paragraph of HTML."""
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _text(text: str) -> str:
    """Return text for HTML, without characters that cannot be printed."""
    return escape(printable(text))


@dataclass
class Claim:
    """The claim of one run on the folder of its reports, held from `take` to `release`.

    Args:
        folder: The folder.
        command: How the run was started.
        run: The id of the run.
        known: Further facts for its refusals, which are keywords of `refusal`.
        hold: What holds the folder.
    """

    folder: Path
    command: Sequence[str]
    run: str
    known: dict[str, Any] = field(default_factory=dict)
    hold: ExitStack = field(default_factory=ExitStack)
    taken: bool = False
    """True while the folder is that of this run."""

    def take(self, *, wait: bool, reason: str = UNFINISHED) -> None:
        """Keep other runs out of the folder, and have its reports refuse this run.

        Args:
            wait: Whether to wait for the end of another run that has the folder.
            reason: Why the run is refused until its outcome.

        Raises:
            InputError: Another run has the folder, or it cannot be written. Reports there stay
                unchanged.
        """
        if is_held(self.folder):
            raise OutputError(
                f"{self.folder}: the run that started this one writes there; "
                "name another with --stress-reports"
            )
        busy = f"{self.folder}: another run of the gate writes there"

        def announce_wait() -> None:
            print(
                f"{busy}; waiting for it to end (no_wait = true: end with 4)",
                file=sys.stderr,
                flush=True,
            )

        on_wait = announce_wait if wait else None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # The disk itself may be read-only.
            self.hold.enter_context(held(self.folder, on_wait=on_wait))
            self.taken = True
            self.refuse(reason)
        except FolderBusyError:
            advice = "wait for it to end, or name another folder with --stress-reports"
            raise OutputError(f"{busy}; {advice}") from None
        except OSError as error:
            raise self._not_written(error) from None

    def release(self) -> None:
        """Let other runs into the folder."""
        self.taken = False
        self.hold.close()

    def refuse(self, *reasons: str) -> None:
        """Replace all reports by those of an inconclusive run.

        Raises:
            InputError: The reports cannot be written. All of them stay unchanged.
        """
        record = refusal(reasons, self.command, run=self.run, **self.known)
        self._write(refused_reports(record), [*reversed(_KINDS)])
        self._clear({})

    def publish(self, contents: Mapping[str, bytes]) -> None:
        """Replace all reports by those of an outcome.

        Args:
            contents: The reports and their pictures, by name.

        Raises:
            InputError: The reports cannot be written. All of them stay unchanged.
        """
        # The name of a picture follows from its content, so that writing one first never replaces
        # a picture that the record of another run names.
        pictures = {name: content for name, content in contents.items() if name not in _KINDS}
        self._write(contents, [*_KINDS], pictures)
        self._clear(pictures)

    def _clear(self, pictures: Mapping[str, bytes]) -> None:
        """Remove the pictures that the record does not name, except where that is impossible."""
        folder = self.folder / PICTURES
        with suppress(OSError, OutputError):
            for path in _pictures_in(folder):
                if f"{PICTURES}/{path.name}" not in pictures:
                    Output(path, REPORT_PICTURE, within=self.folder).remove()
            if not pictures:
                folder.rmdir()

    def _write(
        self,
        contents: Mapping[str, bytes],
        names: Sequence[str],
        pictures: Mapping[str, bytes] = {},
    ) -> None:
        """Write the pictures, then the named reports in this order."""
        try:
            for name, content in pictures.items():
                picture = Output(self.folder / name, REPORT_PICTURE, within=self.folder)
                picture.write(content, durable=False)

            reports = {
                Output(self.folder / name, _KINDS[name], within=self.folder): contents[name]
                for name in names
            }
            write_together(reports)
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"reports cannot be written to {self.folder}: {error.strerror or error}; "
            "make room there, or name another folder with --stress-reports"
        )


def _pictures_in(folder: Path) -> Iterator[Path]:
    """Yield the files that are named as a run names its pictures; none behind a symbolic link."""
    if folder.is_symlink():
        return
    for path in folder.glob("*.webp"):
        if re.fullmatch("[0-9a-f]{16}", path.stem):
            yield path


def refuse_unbegun(folder: Path, command: Sequence[str], why: str, *, wait: bool) -> None:
    """Have the reports in a folder refuse a run that has not begun.

    Where they cannot be written, an earlier refusal stays, and standard error has the reason.

    Args:
        folder: The folder.
        command: How the run was started.
        why: Why it has not begun.
        wait: Whether to wait for another run that has the folder, or to leave its reports alone.
    """
    claim = Claim(folder, command, new_run_id())
    try:
        claim.take(wait=wait, reason=why)
    except InputError as error:
        print(reason(error), file=sys.stderr)
    finally:
        claim.release()
