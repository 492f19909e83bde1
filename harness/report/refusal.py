"""The reports of a run without a verdict, and the claim of their folder, whose reports refuse a run until its outcome.

It needs the standard library alone, since any package may be what failed.
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
    from collections.abc import Mapping, Sequence

PROTOCOL = 1
"""As in `harness.perturb`, which needs packages."""
ROLES = ("candidate", "baseline", "incumbent", "original")
"""Roles that have an entry in every `stress.json`."""
TITLE = "Model quality gate"
"""The title of a report, behind its verdict and candidate."""
_STYLE = Path(__file__).parent / "templates/report.css"
_SHOWN = 10
"""Reasons that the summary shows."""
UNFINISHED = f"[{Code.CRASH}] the run did not finish; run the gate again"
"""The reason of every refusal until a better one is known."""
_KINDS = {PAGE: REPORT_PAGE, SUMMARY: REPORT_MARKDOWN, REPORT: REPORT_JSON}
"""The reports in the order in which an outcome replaces them; a refusal does so the other way round.

So the record is the first to refuse a run and the last to say more.
"""


def mark_of_summary(run: str, verdict: str) -> str:
    """Return the line of `stress.md` that names the run and its verdict."""
    return f"- run: `{_id(run)}`, verdict `{_id(verdict)}`"


def mark_of_page(run: str, verdict: str) -> str:
    """Return the attributes of an element of `stress.html` that name the run and its verdict."""
    return f'data-run="{_id(run)}" data-verdict="{_id(verdict)}"'


def _id(text: str) -> str:
    """Return the letters and digits of an id: a record from elsewhere may have any text there."""
    return "".join(each for each in text if each.isalnum())


def refusal(
    reasons: Sequence[str],
    command: Sequence[str],
    *,
    run: str = "",
    profile: str = "",
    models: Mapping[str, str] = {},
    data: str = "",
) -> dict[str, Any]:
    """Return the record of a run without a verdict: why, how it was started, and what it was asked to judge.

    `run` is its id, `models` has paths by role, `data` and `profile` are as given. Unknown values are empty.
    """
    known = {
        role: {"path": path, "sha256": "", "architecture": ""} for role, path in models.items()
    }
    empty = (
        "omissions",
        "notices",
        "failed_tests",
        "known",
        "self_checks",
        "checks",
        "remarks",
        "tests",
    )
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
        **{role: known.get(role) for role in (*ROLES, *known)},
        "data": {"name": data, "split": "", "sha256": "", "n": 0, "classes": []},
        "recipe": {},
        "provenance": "of unknown origin",
        "checks_sha256": "",
        "versions": versions(),
        "errors": list(reasons),
        "error_codes": [code_in(reason) for reason in reasons],
        **{name: [] for name in empty},
        **{name: {} for name in ("reference_curves", "pictures", "thumbnails", "costs")},
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
    """Return the keys of records that features leave; none if a feature is what failed."""
    try:
        return sorted(record_keys())
    except Exception:
        return []


def refused_reports(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Return all three reports of a refusal by their names, the record first."""
    reasons, data, line = record["errors"], record["data"]["name"], record["command"]
    models = {
        role: entry["path"]
        for role, entry in record.items()
        if isinstance(entry, dict) and "path" in entry
    }
    page = bare_page(
        run=record["run"],
        verdict="error",
        sentence="No verdict: this run is inconclusive.",
        headline=INCONCLUSIVE,
        reasons=reasons,
        facts={
            **models,
            "data": data,
            "reproduce": line,
            "versions": ", ".join(
                f"{name} {release}" for name, release in record["versions"].items()
            ),
        },
    )
    said = [f"- **inconclusive**: {plain(reason)}" for reason in reasons[:_SHOWN]]
    more = len(reasons) - _SHOWN
    said += [f"- **inconclusive**: {more} more, listed in {PAGE}"] if more > 0 else []
    judged = [f"- {plain(role)}: {code(path)}" for role, path in models.items()]
    judged += [f"- data: {plain(data)}"] if data else []
    judged.append(mark_of_summary(record["run"], "error"))
    blocks = [
        [f"## ❌ {TITLE}: {INCONCLUSIVE}"],
        said,
        ["What was judged:", "", *judged],
        [f"Reproduce: {code(line)}"],
    ]
    summary = relative("\n\n".join("\n".join(block) for block in blocks) + "\n", record["folder"])
    made = {REPORT: json.dumps(record, indent=1) + "\n", SUMMARY: summary, PAGE: page}
    return {name: writable(content).encode() for name, content in made.items()}


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
    """Return a page with a verdict, a paragraph for each line that is `said` of it, and a table of `facts`.

    The `reasons` of the verdict stand in the box at the top with it.
    """
    style = ""
    with suppress(OSError):
        style = _STYLE.read_text("utf-8")
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    in_box, below = (
        "".join(f"<p>{_text(line)}</p>" for line in lines) for lines in (reasons, said)
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><header><h1>{TITLE}</h1></header><main class="stress">'
        f'<div class="headline {verdict}" {mark_of_page(run, verdict)}>'
        f"<strong>{_text(sentence)}</strong>{in_box}"
        f'<span>{_text(headline)}</span></div>{below}<section class="section">'
        f'<h2>What was judged, and how to do it again</h2><div class="scroll"><table>{rows}</table></div>'
        "</section></main></body></html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))


@dataclass
class Claim:
    """The folder of the reports as that of one run, which this process holds from `take` to `release`.

    `command` is how the run was started, and `known` has further facts of its refusals, as in `refusal`.
    """

    folder: Path
    command: Sequence[str]
    run: str
    known: dict[str, Any] = field(default_factory=dict)
    hold: ExitStack = field(default_factory=ExitStack)
    taken: bool = False
    """True while the folder is that of this run."""

    def take(self, *, wait: bool, reason: str = UNFINISHED) -> None:
        """Keep other runs out of the folder, and have its reports refuse this run for this reason.

        If another run is there, `wait` for its end. Raises `InputError` for a folder that another run has, or that
        cannot be written; reports there stay unchanged.
        """
        if is_held(self.folder):
            raise OutputError(
                f"{self.folder}: the run that started this one writes there; name another with --stress-reports"
            )
        busy = f"{self.folder}: another run of the gate writes there"

        def say() -> None:
            print(
                f"{busy}; waiting for it to end (no_wait = true: end with 4)",
                file=sys.stderr,
                flush=True,
            )

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # The disk itself may be read-only.
            self.hold.enter_context(held(self.folder, on_wait=say if wait else None))
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
        """Have all reports say that the run is inconclusive, and why; raises `InputError` and changes none of them."""
        record = refusal(reasons, self.command, run=self.run, **self.known)
        self._write(refused_reports(record), [*reversed(_KINDS)])
        self._clear({})

    def publish(self, contents: Mapping[str, bytes]) -> None:
        """Have all reports be those of an outcome; raises `InputError` and changes none of them.

        The pictures among the contents are written first. Their names follow from their contents, so they replace none
        that the record of another run names.
        """
        pictures = {name: content for name, content in contents.items() if name not in _KINDS}
        self._write(contents, [*_KINDS], pictures)
        self._clear(pictures)

    def _clear(self, kept: Mapping[str, bytes]) -> None:
        """Remove the pictures that the record does not name; one that cannot be removed stays unused."""
        folder = self.folder / PICTURES
        with suppress(OSError, OutputError):
            for path in () if folder.is_symlink() else folder.glob("*.webp"):
                if (
                    re.fullmatch("[0-9a-f]{16}", path.stem)
                    and f"{PICTURES}/{path.name}" not in kept
                ):
                    Output(path, REPORT_PICTURE, within=self.folder).remove()
            if not kept:
                folder.rmdir()

    def _write(
        self,
        contents: Mapping[str, bytes],
        names: Sequence[str],
        pictures: Mapping[str, bytes] = {},
    ) -> None:
        try:
            for name, content in pictures.items():
                Output(self.folder / name, REPORT_PICTURE, within=self.folder).write(
                    content, durable=False
                )
            write_together(
                {
                    Output(self.folder / name, _KINDS[name], within=self.folder): contents[name]
                    for name in names
                }
            )
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"reports cannot be written to {self.folder}: {error.strerror or error}; make room there, or name another "
            "folder with --stress-reports"
        )


def refuse_unbegun(folder: Path, command: Sequence[str], why: str, *, wait: bool) -> None:
    """Have the reports in a folder refuse a run that has not begun; where they cannot, an earlier refusal stays.

    If another run has the folder, `wait` for its end, or leave its reports alone.
    """
    claim = Claim(folder, command, new_run_id())
    try:
        claim.take(wait=wait, reason=why)
    except InputError as error:
        print(reason(error), file=sys.stderr)
    finally:
        claim.release()
