"""Mutates the code that decides, and records which mutants its tests kill.

Run `python tests/mutation.py --seconds 3600`. A mutant is a seeded sample's place with one
operator, constant or condition changed. It lives in a copy of the repository, and the tests of its
part run there up to the first failure. Outcomes stand in `mutants.json`; a run continues the last
one, until its seconds are spent.

`--check` runs the mutants that were killed once, and returns 1 if tests let one live today. A
mutant is found again by its function, the line and the changed line, in whatever file they stand.
One whose line is gone is counted, no more.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD, CHECKED = ROOT / "tests/mutants.json", ROOT / "tests/mutants.resume"
COPIED = (
    "harness",
    "tests",
    "stress_tests",
    "models",
    "pyproject.toml",
    "conftest.py",
    "README.md",
)
OF_STATUS = (
    *("run/test_outcome", "run/test_conclusion", "project/test_writers", "report/test_report"),
    *("plugin/test_plugin", "plugin/test_endings", "plugin/test_two_runs", "report/test_owner"),
)
PARTS = {
    "checks": (("checks",), ("tests/checks",)),
    "thresholds": (
        tuple(f"calibration/{name}.py" for name in ("thresholds", "moderated_variance", "panel")),
        tuple(
            f"tests/calibration/test_{name}.py"
            for name in ("thresholds", "moderated", "panel", "small_groups")
        ),
    ),
    "status and reports": (
        ("plugin/run_record.py", "report/owner.py", "report/refusal.py"),
        tuple(f"tests/{name}.py" for name in OF_STATUS),
    ),
    "checkpoints": (("networks/checkpoints",), ("tests/networks",)),
    "predictors": (
        ("inference/predictors", "features/onnx", "features/openvino", "features/served_models"),
        (
            "tests/inference/test_predictors.py",
            "tests/inference/test_callables.py",
            "tests/inference/test_recorded.py",
            "tests/features/test_served_models.py",
        ),
    ),
}
"""Code below `harness/` and the tests that must notice its mutants, by the name of the part."""
SWAPS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
}
"""Text of an operator, and of its replacement."""
LEAST_SECONDS = 60
"""Added to three times the seconds of the sound tests: a mutant whose tests take longer is killed.
"""


@dataclass(frozen=True)
class Mutant:
    """A line of a function with its change.

    `nth` is its place among equal lines of the function, from 0.
    """

    part: str
    function: str
    line: str
    mutated: str
    nth: int = 0
    outcome: str = ""
    by: str = ""
    seconds: float = 0.0

    @property
    def key(self):
        """Return what finds it again."""
        return (self.function, self.line, self.mutated, self.nth)


def functions(text):
    """Yield each function of a module with its qualified name.

    Those within functions belong to the outer one.
    """

    def inside(node, names):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from inside(child, [*names, child.name])
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield ".".join([*names, child.name]), child

    yield from inside(ast.parse(text), [])


def changes(function, lines):
    """Yield the number, from 0, and the text of each changed line of a function."""
    for node in ast.walk(function):
        spots = []
        if isinstance(node, ast.Compare):
            spots = list(
                zip(node.ops, [node.left, *node.comparators], node.comparators, strict=False)
            )
        elif isinstance(node, ast.BoolOp):
            spots = [(node.op, *pair) for pair in zip(node.values, node.values[1:], strict=False)]
        elif isinstance(node, ast.BinOp):
            spots = [(node.op, node.left, node.right)]
        for operator, left, right in spots:
            old, new = SWAPS.get(type(operator), ("", ""))
            if old and left.end_lineno == right.lineno:
                yield _changed(
                    lines, left.end_lineno - 1, (left.end_col_offset, right.col_offset), (old, new)
                )
        if (
            isinstance(node, ast.Constant)
            and type(node.value) in {bool, int, float}
            and node.lineno == node.end_lineno
        ):
            new = repr(not node.value) if isinstance(node.value, bool) else repr(node.value + 1)
            yield _replaced(lines, node, lambda _, new=new: new)
        if (
            isinstance(node, ast.If | ast.While | ast.IfExp)
            and node.test.lineno == node.test.end_lineno
        ):
            yield _replaced(lines, node.test, lambda old: f"(not ({old}))")


def _replaced(lines, node, new):
    columns = (node.col_offset, node.end_col_offset)
    old = lines[node.lineno - 1].encode()[slice(*columns)].decode()
    return _changed(lines, node.lineno - 1, columns, (old, new(old)))


def _changed(lines, number, columns, swap):
    content, (begin, end), (old, new) = lines[number].encode(), columns, swap
    changed = content[begin:end].replace(old.encode(), new.encode(), 1)
    return number, (content[:begin] + changed + content[end:]).decode()


def _first(function):
    """Return the number of a function's first line, from 0, its decorators included."""
    return min(node.lineno for node in [function, *function.decorator_list]) - 1


def mutants_of(part):
    """Return all mutants of a part."""
    found = {}
    for place in PARTS[part][0]:
        path = ROOT / "harness" / place
        for file in (
            sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
        ):
            text = file.read_text("utf-8")
            lines = text.splitlines()
            for name, function in functions(text):
                for number, mutated in changes(function, lines):
                    nth = _same(lines, function, number)
                    mutant = Mutant(part, name, lines[number].strip(), mutated.strip(), nth)
                    if mutant.line != mutant.mutated:
                        found[mutant.key] = mutant
    return list(found.values())


def _same(lines, function, number):
    return sum(lines[at].strip() == lines[number].strip() for at in range(_first(function), number))


def applied(mutant, house):
    """Return a file below a folder and its text with the mutant in it.

    None if the function has no such line.
    """
    own = tuple(str(house / place) for place in PARTS[mutant.part][0])
    for file in sorted(house.rglob("*.py"), key=lambda file: (not str(file).startswith(own), file)):
        text = file.read_text("utf-8")
        if mutant.line not in text:
            continue
        lines = text.splitlines()
        for name, function in functions(text):
            equal = [
                at
                for at in range(_first(function), function.end_lineno)
                if lines[at].strip() == mutant.line
            ]
            if name == mutant.function and len(equal) > mutant.nth:
                at = equal[mutant.nth]
                lines[at] = lines[at][: len(lines[at]) - len(lines[at].lstrip())] + mutant.mutated
                return file, "\n".join(lines) + "\n"
    return None


class Copy:
    """A copy of the repository for mutants, and the seconds of each part's sound tests there."""

    def __init__(self, folder):
        self.folder, self.sound = folder, {}
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, folder / name)

    def tested(self, part, limit=None):
        """Return whether the tests of a part pass, the first that fails, and the seconds."""
        tests = [name for name in PARTS[part][1] if (self.folder / name).exists()]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            *tests,
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--no-header",
        ]
        begun = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "no end", time.monotonic() - begun
        first = next(
            (line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))),
            "",
        )
        return done.returncode == 0, first.partition(" - ")[0], time.monotonic() - begun

    def tried(self, mutant):
        """Return the mutant with its outcome: killed, survived or gone."""
        if mutant.part not in self.sound:
            passed, first, self.sound[mutant.part] = self.tested(mutant.part)
            if not passed:
                raise SystemExit(f"the tests of {mutant.part} fail without a mutant: {first}")
        found = applied(mutant, self.folder / "harness")
        if found is None:
            return replace(mutant, outcome="gone", by="", seconds=0.0)
        file, text = found
        before = file.read_text("utf-8")
        file.write_text(text, "utf-8")
        try:
            passed, first, seconds = self.tested(
                mutant.part, 3 * self.sound[mutant.part] + LEAST_SECONDS
            )
        finally:
            file.write_text(before, "utf-8")
        return replace(
            mutant, outcome="survived" if passed else "killed", by=first, seconds=round(seconds, 1)
        )


def sampled(parts, seed):
    """Return the mutants of the parts in a seeded order, a mutant of each part in turn."""
    queues = []
    for part in parts:
        queue = mutants_of(part)
        random.Random(f"{seed} {part}").shuffle(queue)
        queues.append([(number / len(queue), mutant) for number, mutant in enumerate(queue)])
    return [
        mutant
        for _, mutant in sorted(
            (each for queue in queues for each in queue), key=lambda each: each[0]
        )
    ]


def read(path):
    """Return the mutants in a file."""
    return [Mutant(**each) for each in json.loads(path.read_text("utf-8"))] if path.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=3600, help="begin no mutant after so long (default: 3600)"
    )
    parser.add_argument(
        "--most",
        type=int,
        default=10**9,
        metavar="N",
        help="try so many mutants (default: no limit)",
    )
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this part (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument(
        "--check", action="store_true", help="try those again that were killed once"
    )
    options = parser.parse_args()
    parts, begun, path = (
        options.part or list(PARTS),
        time.monotonic(),
        CHECKED if options.check else RECORD,
    )
    known = [
        mutant for mutant in read(RECORD) if mutant.outcome == "killed" and mutant.part in parts
    ]
    done = read(path)
    tried = {mutant.key for mutant in done}
    waiting = [
        each
        for each in (known if options.check else sampled(parts, options.seed))
        if each.key not in tried
    ]
    print(f"{len(done)} are done, {len(waiting)} wait", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for mutant in waiting[: options.most]:
            if time.monotonic() - begun > options.seconds:
                break
            done.append(copy.tried(mutant))
            path.write_text(
                json.dumps([asdict(each) for each in done], indent=0, ensure_ascii=False) + "\n",
                "utf-8",
            )
            said = done[-1]
            print(
                f"{said.outcome} in {said.seconds:.0f} s: {said.function}: {said.line} → "
                f"{said.mutated}",
                flush=True,
            )
    outcomes = [mutant.outcome for mutant in done]
    print(", ".join(f"{outcomes.count(name)} {name}" for name in ("killed", "survived", "gone")))
    return int(options.check and "survived" in outcomes)


if __name__ == "__main__":
    sys.exit(main())
