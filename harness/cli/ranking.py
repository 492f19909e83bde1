"""Many checkpoints, each judged by the gate in a process of its own, and ranked by what it says: compare A B C …."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.gating import gate_options, network_of, refuse_own
from harness.cli.models import option_name
from harness.cli.status import OK
from harness.data.options import DATA_SETTINGS
from harness.errors import InputError, printable
from harness.networks.options import NETWORK_SETTINGS
from harness.store.settings import add_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.networks import NetworkOptions
    from harness.report.ranking import Judged


def compare_many(options: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Rank the checkpoints, print the ranking, and write its page.

    Raises `InputError` for a file that is refused, one network given twice, and where none could be judged.
    """
    from harness.report.ranking import ranked, ranking_lines, ranking_page, ranking_rows
    from harness.store import write_atomically

    if options.failures:
        raise InputError("--failures: tells two checkpoints apart, image by image; name two")
    refuse_own(options.options, "--candidate", "--gates", "--stress-reports")
    passed = _passed_on(options)
    names = _names(paths)
    # What the project's configuration says of the network, and what is said here.
    _expect_different(paths, network_of(argparse.Namespace(gates=options.gates, options=passed)))
    candidates = ranked(_judged(dict(zip(names, paths, strict=True)), options.gates, passed))
    if all(one.verdict == "error" for one in candidates):
        raise InputError(
            f"none of {len(paths)} checkpoints could be judged; {candidates[0].path}: {candidates[0].error}"
        )
    facts = {
        **{one.name: f"{one.path} ({one.sha256[:12]})" for one in candidates},
        "gates": str(options.gates),
        "reproduce": shlex.join(
            [
                *("python", "-m", "harness", "compare", *map(str, paths), "--gates", str(options.gates)),
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


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what each checkpoint is called: its file's stem, or its path where several have that."""
    stems = Counter(path.stem for path in paths)
    return [path.stem if stems[path.stem] == 1 else str(path) for path in paths]


def _expect_different(paths: Sequence[Path], network: NetworkOptions) -> None:
    """Raise `InputError` for a checkpoint that is refused, and for a network that is given twice."""
    from harness.networks.declared import load_model

    first: dict[str, Path] = {}
    for path in paths:
        checkpoint = load_model(path, network)
        if (twin := first.setdefault(checkpoint.model_sha256, path)) is not path:
            raise InputError(f"{twin} and {path} hold the same network; there is nothing to compare")


def _judged(checkpoints: dict[str, Path], gates: Path, passed: Sequence[str]) -> list[Judged]:
    """Run the gate on each checkpoint, one after the other: each run takes all cores."""
    from tqdm import tqdm

    from harness.plugin.rootdir import joined
    from harness.report.ranking import Judged

    found = []
    for name, path in tqdm(checkpoints.items(), unit="checkpoint", desc="gating", delay=2):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [
                *(str(gates.parent), "-q", "-p", "no:cacheprovider", "-p", "no:html", "--candidate", str(path)),
                *("--gates", str(gates), "--stress-reports", folder, "--stress-no-overview", "--stress-history=none"),
                *passed,
            ]
            command = [sys.executable, "-m", "pytest", *joined(arguments)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  Our own command.
            try:
                report = json.loads((Path(folder) / "stress.json").read_bytes())
            except OSError:
                tail = (run.stdout + run.stderr).strip().splitlines()[-15:]
                status = f"{path}: the stress tests ended with exit status {run.returncode}:"
                raise InputError(status, below=tail) from None
        found.append(Judged.of(name, str(path), report))
    return found
