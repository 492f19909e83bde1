"""Many checkpoints ranked by the gate: compare A B C …."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, printable
from harness.base.settings import add_settings
from harness.cli.gating import network_of, refuse_own
from harness.cli.models import option_name
from harness.cli.status import OK
from harness.data.options import DATA_SETTINGS
from harness.networks.options import NETWORK_SETTINGS
from harness.run.pytest_configuration import gate_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def compare_many(options: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Rank the checkpoints, print the ranking, and write its page."""
    from harness.base import write_atomically
    from harness.report.ranking import ranking_lines, ranking_page, ranking_rows
    from harness.run.ranking import RankingRequest, rank
    from harness.run.request import joined

    if options.failures:
        raise InputError("--failures: tells two checkpoints apart, image by image; name two")
    refuse_own(options.options, "--candidate", "--checks", "--stress-reports")
    passed = tuple(_passed_on(options))
    # What the project's configuration says of the network, and what is said here.
    network = network_of(argparse.Namespace(checks=options.checks, options=passed))
    candidates = rank(RankingRequest(tuple(paths), options.checks, network, tuple(joined(passed))))
    facts = {
        **{one.name: f"{one.path} ({one.sha256[:12]})" for one in candidates},
        "checks": str(options.checks),
        "reproduce": shlex.join(
            [
                *("python", "-m", "harness", "compare", *map(str, paths), "--checks", str(options.checks)),
                *(["--", *passed] if passed else []),
            ]
        ),
    }
    write_atomically(options.output, ranking_page(candidates, facts).encode())
    if options.json:
        titles, *rows = ranking_rows(candidates)
        told = [
            {
                **dict(zip(titles, row, strict=True)),
                "path": one.path,
                "failing": one.failing,
                "failed_tests": one.failed_tests,
                "margins": one.margins,
            }
            for row, one in zip(rows, candidates, strict=True)
        ]
        print(json.dumps({"ranking": told, "page": str(options.output)}))
        return OK
    print("\n".join(map(printable, ranking_lines(candidates))))
    print(f"page: {options.output}")
    return OK


def _passed_on(options: argparse.Namespace) -> list[str]:
    """Return what the command's own options say to the gate, and what follows -- after it."""
    actions: list[argparse.Action] = []
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)

    def add(*named: str, **how: Any) -> None:
        actions.append(parser.add_argument(*named, **how))

    add_settings(add, (*DATA_SETTINGS, *NETWORK_SETTINGS), option=option_name)
    given = [part for each in gate_options(actions, options) for part in each]
    if options.samples is not None:
        given += ["--stress-samples", str(options.samples)]
    if options.device != "auto":
        given += ["--stress-device", options.device]
    return [*given, *options.options]
