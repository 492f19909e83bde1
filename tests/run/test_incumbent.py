"""The incumbent is declared by its hash: one that is missing, or another, is a 4, and one that is waived is named."""

import hashlib
import shutil
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from zoo import CLEAN, REGRESSION, GatedZoo, run_here

from harness.base.errors import InputError
from harness.checks.declaration import declaration_of, declaration_of_none, pending_of, read_declaration
from harness.cli import main
from harness.run import acceptance

NAMED = "not compared with an incumbent"


@pytest.fixture
def zoo(pytester, monkeypatch):
    """A repository whose incumbent is good, and a candidate that is worse by its regression check alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    zoo = GatedZoo(pytester, tests=("clean", "regression"))
    zoo.bind(CLEAN + REGRESSION)
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    zoo.incumbent, zoo.declaration = zoo.root / "models/incumbent.safetensors", zoo.root / "models/incumbent.toml"
    return zoo


@pytest.fixture
def declared(zoo):
    """The repository with a declared incumbent."""
    zoo.save("models/incumbent.safetensors", seed=3, jitter=0.01)
    declare(zoo, zoo.incumbent)
    return zoo


def declare(zoo, weights: Path) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    zoo.declaration.write_bytes(declaration_of(weights, sha256=sha256, date="2026-01-01"))


def worse(zoo, *options):
    return zoo.run("--candidate", "worse.safetensors", *options)


def refusal(zoo, result) -> str:
    """Return why a run was refused, when all reports say so."""
    report = zoo.report()
    assert (result.ret, report["verdict"]) == (4, "error")
    assert "ERROR" in (zoo.root / "reports/stress.md").read_text()
    return " ".join(report["errors"])


def test_a_declared_incumbent_fails_a_worse_candidate(declared):
    assert worse(declared).ret == 1
    assert declared.statuses["regression-clean"] == "fail"
    assert declared.report()["notices"] == []


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "workers"])
def test_a_declared_incumbent_that_is_gone_is_a_4(declared, workers):
    declared.incumbent.unlink()
    said = refusal(declared, worse(declared, *workers))
    assert "models/incumbent.safetensors: does not exist, expected " in said
    assert "incumbent.toml declares. Bring the file back" in said


def test_another_file_than_the_declared_one_is_a_4(declared):
    shutil.copy(declared.root / "worse.safetensors", declared.incumbent)
    assert "models/incumbent.safetensors: has the SHA-256 " in refusal(declared, worse(declared))


def test_a_renamed_incumbent_is_found_where_its_declaration_says_so(declared):
    renamed = declared.incumbent.rename(declared.root / "models/prod.safetensors")
    assert "does not exist" in refusal(declared, worse(declared))
    declare(declared, renamed)
    assert worse(declared).ret == 1
    assert declared.report()["incumbent"]["path"].endswith("models/prod.safetensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("schema = 1\n", "file"),
        ("schema = 2\nfile = 'none'\n", "schema is 2, expected 1"),
        ("schema = 1\nfile = '../worse.safetensors'\n", "expected the name of a file in the same folder"),
        ("schema = 1\nfile = 'incumbent.safetensors'\n", "expected 64 hexadecimal digits"),
        ("schema = 1\nfile = 'none'\nwaive = true\n", "waive"),
        ("schema = 1\nfile = 'none'\n", "expected a reason and no sha256"),
        (f"schema = 1\nfile = 'none'\nreason = 'x'\nsha256 = '{64 * '0'}'\n", "expected a reason and no sha256"),
        ("<<<<<<< HEAD\n", "not valid TOML"),
    ],
    ids=["file", "schema", "folder", "sha256", "unknown", "no-reason", "none-with-sha256", "conflict"],
)
def test_a_declaration_that_cannot_be_read_is_refused(tmp_path, content, said):
    path = tmp_path / "incumbent.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"incumbent.toml: .*{said}"):
        read_declaration(path)


# Without an incumbent.


def test_a_declaration_that_is_a_link_to_nothing_is_a_4(declared):
    declared.declaration.unlink()
    declared.declaration.symlink_to("gone.toml")
    assert declared.run().ret == 4
    assert "cannot be read" in declared.report()["errors"][0]


def test_no_incumbent_that_nobody_waived_makes_the_verdict_partial(zoo):
    result = worse(zoo)
    report = zoo.report()
    assert (result.ret, report["verdict"]) == (0, "partial")
    (omission,) = report["omissions"]
    assert omission.startswith("no incumbent is declared or waived, so 1 checks with a threshold have no verdict: ")
    details = {check["id"]: check["detail"] for check in report["checks"]}
    assert details["regression-clean"] == "there is no last accepted model (none is declared)"


def test_a_check_without_a_threshold_needs_no_incumbent(zoo):
    zoo.bind(CLEAN + REGRESSION.replace("hand = { threshold = -0.01 }\n", ""))
    assert worse(zoo).ret == 0
    assert zoo.report()["verdict"] == "pass"


@pytest.mark.parametrize("how", ["option", "file"])
def test_a_waived_incumbent_is_named_in_every_report(zoo, how):
    options = ("--incumbent", "none") if how == "option" else ()
    if how == "file":
        zoo.declaration.write_bytes(declaration_of_none())
    result = zoo.run("--candidate", "worse.safetensors", *options, page=True)
    report = zoo.report()
    assert (result.ret, report["verdict"]) == (0, "pass")
    assert zoo.statuses["regression-clean"] == "not_applicable"
    assert report["headline"].startswith("PASS (no incumbent): ")
    who = "--incumbent none" if how == "option" else "models/incumbent.toml: no model is accepted yet"
    (notice,) = report["notices"]
    assert notice.startswith(NAMED)
    assert who in notice
    assert notice.endswith("not applicable: 1 check with a threshold: regression-clean")
    result.stdout.fnmatch_lines([f"  note: {NAMED}*"])
    for name in ("stress.md", "stress.html"):
        text = (zoo.root / "reports" / name).read_text()
        assert NAMED in text
        assert "PASS (no incumbent)" in text


def test_a_declared_incumbent_may_be_waived_and_that_is_said(declared):
    declared.incumbent.unlink()
    assert worse(declared, "--incumbent", "none").ret == 0
    (notice,) = declared.report()["notices"]
    assert "(--incumbent none), though " in notice
    assert "models/incumbent.toml declares one" in notice


def test_a_named_incumbent_wins_and_is_said_to_be_another(declared):
    declared.save("other.safetensors", jitter=0.41, seed=1)
    assert worse(declared, "--incumbent", "other.safetensors").ret == 0
    (notice,) = declared.report()["notices"]
    assert notice.startswith("compared with other.safetensors (")
    assert "which is not the incumbent that " in notice
    assert worse(declared, "--incumbent", "models/incumbent.safetensors").ret == 1
    assert declared.report()["notices"] == []


def test_a_file_that_nobody_declared_is_the_incumbent_as_before(zoo):
    zoo.save("models/incumbent.safetensors")
    assert worse(zoo).ret == 1


def test_the_comparison_with_the_incumbent_asks_for_the_declared_one(declared, monkeypatch, capsys):
    monkeypatch.chdir(declared.root)
    arguments = ["compare", "worse.safetensors", "--data", "npz:zoo.npz", "--output", "compare.html"]
    declared.save("models/incumbent.safetensors", seed=4, jitter=0.02)
    assert main(arguments) == 2
    assert "models/incumbent.safetensors: has the SHA-256 " in capsys.readouterr().err


# The acceptance.


@pytest.fixture
def accepting(zoo, monkeypatch, pytester):
    monkeypatch.chdir(zoo.root)
    (zoo.root / "reports").mkdir()
    zoo.runs = []
    run_here(monkeypatch, pytester, zoo.runs)
    zoo.save("first.safetensors", seed=3, jitter=0.01)
    zoo.save("second.safetensors", seed=4, jitter=0.01)
    return zoo


def accept(*arguments) -> int:
    return main(["accept", *arguments, "--", "--stress-set", "data=npz:zoo.npz"])


def consistent(zoo) -> bool:
    found = read_declaration(zoo.declaration)
    found.expect_weights()
    return not pending_of(zoo.incumbent).exists()


def test_the_first_model_is_accepted_and_declared(accepting, capsys):
    """There is nothing to compare it with, which is no partial verdict."""
    assert accept("first.safetensors") == 0
    assert NAMED in capsys.readouterr().out
    assert consistent(accepting)
    assert worse(accepting).ret == 1
    assert accept("worse.safetensors") == 1
    assert accept("second.safetensors") == 0
    assert consistent(accepting)
    assert accept("second.safetensors") == 0, "the same again"
    assert consistent(accepting)


def test_a_declaration_of_none_gives_way_to_the_first_model(accepting):
    accepting.declaration.write_bytes(declaration_of_none())
    assert accept("first.safetensors") == 0
    assert read_declaration(accepting.declaration).weights == accepting.declaration.with_name("incumbent.safetensors")
    assert consistent(accepting)


@pytest.mark.parametrize("lost", ["gone", "other"])
def test_nothing_is_accepted_past_a_declared_incumbent_but_by_force(accepting, capsys, lost):
    assert accept("first.safetensors") == 0
    accepting.incumbent.unlink()
    if lost == "other":
        shutil.copy(accepting.root / "worse.safetensors", accepting.incumbent)
    before = accepting.declaration.read_bytes()
    capsys.readouterr()
    assert accept("worse.safetensors") == 2
    assert "--force accepts worse.safetensors without comparing" in capsys.readouterr().err
    assert accepting.declaration.read_bytes() == before
    assert accept("--force", "second.safetensors") == 0
    assert "accepted by force" in capsys.readouterr().out
    assert consistent(accepting)


@pytest.mark.processes
@pytest.mark.parametrize("step", ["save_checkpoint", "declaration_of", "replace"])
def test_an_acceptance_that_is_killed_leaves_no_wrong_verdict(accepting, monkeypatch, step):
    assert accept("first.safetensors") == 0

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if step == "replace":  # Of the weights alone; other files are written by a replacement, too.
            whole = Path.replace
            patched.setattr(Path, step, lambda at, to: killed() if at.suffix == ".accepted" else whole(at, to))
        else:
            patched.setattr(acceptance, step, killed)
        assert accept("second.safetensors") == 130
    result = worse(accepting)
    assert result.ret == (4 if step == "replace" else 1)
    if step == "replace":
        result.stderr.fnmatch_lines(["*acceptance was interrupted, finish it: mv *.incumbent.safetensors.accepted *"])
    assert accept("second.safetensors") == 0
    assert consistent(accepting)
    assert worse(accepting).ret == 1
