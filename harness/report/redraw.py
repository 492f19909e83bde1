"""Reports as functions of the record of a run.

All of them follow from `stress.json` and its pictures.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, OutputError, said_of, writable
from harness.base.files import FolderBusyError, held, read_regular
from harness.base.records import refusal_of_schema
from harness.report.refusal import refused_reports
from harness.run.agreement import expect_agreement
from harness.run.shown import image_in
from harness.run.status import MAX_BYTES, PAGE, REPORT, SCHEMA, SUMMARY
from harness.run.stress_json import read_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.run.outcome import Outcome


def reports_of(
    record: str | bytes, read: Callable[[str], bytes], *, where: str
) -> tuple[Outcome | None, dict[str, bytes]]:
    """Return the outcome of a record and its reports by their names.

    A run without an outcome has a refusal.

    `read` returns the picture of a name. Raises `InputError` for a record of another schema, and
    for wrong values.
    """
    from harness.report.html import page_of
    from harness.report.text import markdown

    plain = json.loads(record)
    outcome = outcome_in(plain, read, where=where)
    if outcome is None:
        return None, refused_reports(plain)
    made = {PAGE: page_of(outcome), SUMMARY: markdown(outcome)}
    written = record.encode() if isinstance(record, str) else record
    return outcome, {name: writable(content).encode() for name, content in made.items()} | {
        REPORT: written
    }


def outcome_in(plain: Any, read: Callable[[str], bytes], *, where: str) -> Outcome | None:
    """Return the outcome in the plain content of a record; None for a run without one.

    Raises `InputError` as `reports_of` does, and for a record that contradicts itself.
    """
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if schema != SCHEMA:
        raise InputError(refusal_of_schema(where, schema, expected=SCHEMA))
    if "finished" not in plain:
        raise InputError(
            f"{where}: an earlier version wrote it, without all that a report shows; run the gate "
            "again"
        )

    outcome = None if plain["finished"] is False else read_outcome(plain, read, where=where)
    expect_agreement(plain, outcome, where=where)
    return outcome


def outcome_at(path: Path) -> tuple[Outcome | None, bytes]:
    """Return the outcome of the record at this path, without pictures, and its content.

    Raises as `redrawn` does.

    A record of a whole verdict names the model and the data, with their hashes.
    """
    with reading_record(path):
        record = read_regular(path, max_bytes=MAX_BYTES)
        outcome = outcome_in(json.loads(record), lambda _: b"", where=str(path))
        if outcome is not None and outcome.verdict in {"pass", "fail"}:
            facts = [outcome.inputs.models["candidate"][name] for name in ("path", "sha256")]
            facts += [outcome.inputs.data[name] for name in ("name", "split", "sha256")]
            if not all(isinstance(each, str) for each in facts) or not isinstance(
                outcome.inputs.data["n"], int
            ):
                raise ValueError(f"expected texts, found {facts}")
        return outcome, record


def redrawn(path: Path) -> tuple[Outcome | None, dict[str, bytes]]:
    """Return the outcome and the reports of the record at this path.

    Raises:
        InputError: If it cannot be read.
    """
    with reading_record(path):
        record = read_regular(path, max_bytes=MAX_BYTES)
        return reports_of(record, partial(image_in, path.parent), where=str(path))


@contextmanager
def redrawing_in(folder: Path, record: bytes) -> Iterator[None]:
    """Hold a folder for reports that are drawn from this content of a record.

    Raises `OutputError` for a folder in which a run writes, or with another record: its page would
    show another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    advice = "name another folder with --output"
    with ExitStack() as hold:
        try:
            hold.enter_context(held(folder))
            beside = read_regular(folder / REPORT, max_bytes=MAX_BYTES)
        except FolderBusyError:
            raise OutputError(
                f"{folder}: a run of the gate writes there; wait for it to end, or {advice}"
            ) from None
        except FileNotFoundError:
            beside = record
        except OSError as error:
            raise OutputError(
                f"{folder / REPORT}: cannot be read ({said_of(error)}); {advice}"
            ) from None
        if beside != record:
            raise OutputError(
                f"{folder / REPORT}: is the record of another run, which reports there show; "
                f"{advice}"
            )
        yield


@contextmanager
def reading_record(path: Path) -> Iterator[None]:
    """Turn any error of reading the record at this path into an `InputError`.

    So is any error of its content.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as the record of a run ({said_of(error)})"
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: is not the whole record of a run ({error!r}); run the gate again"
        ) from None
