"""Compares the gate's results on the shipped models with stored ones.

Run `python tests/same_values.py`. There are three runs: the shipped model, the baseline as the
candidate, and the quick profile. Every measured value, threshold, status and verdict must equal
that in `same_values.json`, bit by bit on one kind of processor. With `--images N`, shares and
counts may differ by N images. `RENAMED` maps the names that a refactoring changes, so values stay
comparable.

Further parts stand in `same_parts.json`: a calibrated checks file, what `equal` and `skew` print,
an export, and the dialog with a server. `--only NAME` compares one run or part, and `--record`
writes it anew.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import same_parts

HERE = Path(__file__).resolve()
EXPECTED = HERE.with_suffix(".json")
PARTS = HERE.with_name("same_parts.json")
RUNS = {
    "default": [],
    "baseline as the candidate": ["--candidate=models/baseline.safetensors"],
    "quick": ["--stress-profile=quick"],
}
RENAMED = {
    "not_gated": "informational",
    "lost_consensus": "consensus_set_errors",
    "lost_of_a_class": "worst_class_consensus_set_errors",
    "right_at_every_pose": "robust_accuracy",
    "kept": "prediction_consistency",
    "lost": "object_dependence",
    "worst-pose-promised": "worst-pose-augmentation-range",
}
"""The name that a metric, a status or a check has now, by the one that it has in the file."""


def measured(options: list[str]) -> dict:
    """Return the verdict, the exit status and the checks of one run, from its `stress.json`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "stress_tests",
            "-q",
            "-p",
            "no:cacheprovider",
            *options,
        ]
        command += [f"--stress-reports={folder}", "--stress-set=history=none"]
        status = subprocess.run(
            command, cwd=HERE.parents[1], stdout=subprocess.DEVNULL, check=False
        ).returncode
        report = json.loads(Path(folder, "stress.json").read_bytes())
    checks = report["checks"] if "checks" in report else report["gates"]
    return {
        "verdict": report["verdict"],
        "exit_status": status,
        "checks": {
            check["id"]: [
                check["metric"],
                check["value"],
                check["threshold"] if "threshold" in check else check["bound"],
                check["direction"],
                check["n"],
                check["status"],
                check["reference_mean"] if "reference_mean" in check else check["healthy_mean"],
                check["reference_std"] if "reference_std" in check else check["healthy_std"],
                check["minimum_detectable_drop"]
                if "minimum_detectable_drop" in check
                else check["detects"],
            ]
            for check in checks
        },
    }


def differences(before: dict, now: dict, *, images: int) -> list[str]:
    """Return a line for each difference between two runs."""
    lines = [
        f"{name}: {before[name]!r}, now {now[name]!r}"
        for name in ("verdict", "exit_status")
        if before[name] != now[name]
    ]
    old = {RENAMED.get(name, name): entry for name, entry in before["checks"].items()}
    lines += [f"{name}: in one run alone" for name in sorted(old.keys() ^ now["checks"].keys())]
    for name in sorted(old.keys() & now["checks"].keys()):
        entry = [
            RENAMED.get(value, value) if isinstance(value, str) else value for value in old[name]
        ]
        if not alike(entry, now["checks"][name], images=images):
            lines.append(f"{name}: {entry}, now {now['checks'][name]}")
    return lines


def alike(before: list, now: list, *, images: int) -> bool:
    """Return whether two entries say the same, values of up to so many images apart."""
    value, found, n = before[1], now[1], now[4]
    if before[:1] + before[2:] != now[:1] + now[2:] or None in (value, found):
        return before == now
    return value == found or abs(value - found) <= images / (n if 0 <= value <= 1 else 1)


def compared_runs(names: list[str], *, record: bool, images: int) -> int:
    """Run the gate by each name and compare or record it.

    Returns the number of runs that differ.
    """
    before, differing = json.loads(EXPECTED.read_bytes()), 0
    for name in names:
        run = measured(RUNS[name])
        if record:
            before[name] = run
            text = json.dumps(before).replace("], ", "],\n").replace("{", "{\n").replace("}", "\n}")
            EXPECTED.write_text(f"{text}\n", "utf-8")
            continue
        lines = differences(before[name], run, images=images)
        differing += bool(lines)
        print(
            "\n".join([f"{name}: {len(run['checks'])} checks, {len(lines)} differences", *lines]),
            flush=True,
        )
    return differing


def compared_parts(names: list[str], *, record: bool) -> int:
    """Make each part and compare or record it; returns the number of parts that differ."""
    before, differing = json.loads(PARTS.read_bytes()) if PARTS.exists() else {}, 0
    for name in names:
        part = json.loads(json.dumps(same_parts.PARTS[name]()))
        if record:
            before[name] = part
            PARTS.write_text(f"{json.dumps(before, indent=0, ensure_ascii=False)}\n", "utf-8")
            continue
        lines = same_parts.differences(before.get(name), part)
        differing += bool(lines)
        print("\n".join([f"{name}: {len(lines)} differences", *lines]), flush=True)
    return differing


def main() -> int:
    """Compare or record the runs and parts; returns the number of those that differ."""
    every = [*RUNS, *same_parts.PARTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=every, metavar="NAME", help=f"one of: {', '.join(every)}"
    )
    parser.add_argument("--record", action="store_true", help="write the values anew")
    parser.add_argument(
        "--images", type=int, default=0, help="images by which values may differ (default: 0)"
    )
    options = parser.parse_args()
    names = options.only or every
    differing = compared_runs(
        [name for name in names if name in RUNS], record=options.record, images=options.images
    )
    return differing + compared_parts(
        [name for name in names if name in same_parts.PARTS], record=options.record
    )


if __name__ == "__main__":
    sys.exit(main())
