"""The incumbent is declared by its hash.

One that is missing, or another, is a 4, and one that is waived is named.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
from zoo import CLEAN, REGRESSION, GatedZoo

from harness.base.errors import InputError
from harness.checks.declaration import (
    declaration_of,
    declaration_of_none,
    pending_of,
    read_declaration,
)
from harness.cli import main
from harness.features.acceptance import acceptance

pytestmark = pytest.mark.usefixtures("unchecked")
NAMED = "not compared with an incumbent"
TESTS, BOUND = ("clean", "regression"), CLEAN + REGRESSION
WEIGHTS, DECLARATION = "models/incumbent.safetensors", "models/incumbent.toml"
WORSE = ("--candidate", "worse.safetensors")


def declaration(weights: Path, *, name: str = "") -> bytes:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return declaration_of(
        weights.with_name(name) if name else weights, sha256=sha256, date="2026-01-01"
    )


@pytest.fixture(scope="module")
def gate(shared):
    """A repository with a good model, and a candidate that fails only its regression check."""
    shared.save("worse.safetensors", jitter=0.4, seed=1)
    shared.save("other.safetensors", jitter=0.41, seed=1)
    good = shared.save("good.safetensors", seed=3, jitter=0.01)
    shared.good = {WEIGHTS: good.read_bytes()}
    shared.declared = {**shared.good, DECLARATION: declaration(good, name="incumbent.safetensors")}
    return shared


def test_a_declared_incumbent_fails_a_worse_candidate(gate):
    ran = gate.once(*WORSE, files=gate.declared)
    assert ran.ending == (1, "fail")
    assert (ran.statuses["regression-clean"], ran.report["notices"]) == ("fail", [])
    assert gate.once(*WORSE, files=gate.good).ending == (1, "fail"), "nor need it be declared"


def test_a_renamed_incumbent_is_found_where_its_declaration_says_so(gate):
    named = declaration(gate.root / "good.safetensors", name="prod.safetensors")
    there = {"models/prod.safetensors": gate.good[WEIGHTS], DECLARATION: named}
    ran = gate.once(*WORSE, files=there)
    assert ran.ending == (1, "fail")
    assert ran.report["incumbent"]["path"].endswith("models/prod.safetensors")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({WEIGHTS: None}, "does not exist, expected "),
        ({WEIGHTS: None}, "incumbent.toml declares. Bring the file back"),
        ({WEIGHTS: b"another"}, "models/incumbent.safetensors: has the SHA-256 "),
    ],
    ids=["gone", "advice", "another"],
)
def test_a_declared_incumbent_that_is_gone_or_another_is_a_4(gate, files, said):
    ran = gate.once(*WORSE, "-n", "2", files={**gate.declared, **files})
    assert ran.ending == (4, "error")
    assert said in ran.why


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("schema = 1\n", "file"),
        ("schema = 2\nfile = 'none'\n", "schema is 2, expected 1"),
        (
            "schema = 1\nfile = '../worse.safetensors'\n",
            "expected the name of a file in the same folder",
        ),
        ("schema = 1\nfile = 'incumbent.safetensors'\n", "expected 64 hexadecimal digits"),
        ("schema = 1\nfile = 'none'\nwaive = true\n", "waive"),
        ("schema = 1\nfile = 'none'\n", "expected a reason and no sha256"),
        (
            f"schema = 1\nfile = 'none'\nreason = 'x'\nsha256 = '{64 * '0'}'\n",
            "expected a reason and no sha256",
        ),
        ("<<<<<<< HEAD\n", "not valid TOML"),
    ],
    ids=[
        "file",
        "schema",
        "folder",
        "sha256",
        "unknown",
        "no-reason",
        "none-with-sha256",
        "conflict",
    ],
)
def test_a_declaration_that_cannot_be_read_is_refused(tmp_path, content, said):
    path = tmp_path / "incumbent.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"incumbent.toml: .*{said}"):
        read_declaration(path)


def test_a_declaration_that_is_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "incumbent.toml").symlink_to("gone.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_declaration(tmp_path / "incumbent.toml")


# Without an incumbent.


def test_no_incumbent_that_nobody_waived_makes_the_verdict_partial(gate):
    ran = gate.once(*WORSE)
    assert ran.ending == (0, "partial")
    (omission,) = ran.report["omissions"]
    assert omission.startswith(
        "no incumbent is declared or waived, so 1 checks with a threshold have no verdict: "
    )
    assert (
        ran.checks["regression-clean"]["detail"]
        == "there is no last accepted model (none is declared)"
    )
    without = CLEAN + REGRESSION.replace("hand = { threshold = -0.01 }\n", "")
    assert gate.once(*WORSE, rows=without).ending == (0, "pass"), (
        "a check without a threshold needs none"
    )


@pytest.mark.parametrize(
    ("options", "files", "who"),
    [
        (("--incumbent", "none"), {}, "--incumbent none"),
        (
            (),
            {DECLARATION: declaration_of_none()},
            "models/incumbent.toml: no model is accepted yet",
        ),
    ],
    ids=["option", "file"],
)
def test_a_waived_incumbent_is_named_in_every_report(gate, options, files, who):
    ran = gate.once(*WORSE, *options, files=files, page=True)
    assert ran.ending == (0, "pass")
    assert ran.statuses["regression-clean"] == "not_applicable"
    assert ran.report["headline"].startswith("PASS (no incumbent): ")
    (notice,) = ran.report["notices"]
    assert notice.startswith(NAMED)
    assert who in notice
    assert notice.endswith("not applicable: 1 check with a threshold: regression-clean")
    ran.stdout.fnmatch_lines([f"  note: {NAMED}*"])
    for text in (ran.summary, ran.page):
        assert NAMED in text
        assert "PASS (no incumbent)" in text


def test_a_declared_incumbent_may_be_waived_or_another_be_named(gate):
    ran = gate.once(*WORSE, "--incumbent", "none", files={**gate.declared, WEIGHTS: None})
    assert ran.ending == (0, "pass")
    (notice,) = ran.report["notices"]
    assert "(--incumbent none), though " in notice
    assert "models/incumbent.toml declares one" in notice
    ran = gate.once(*WORSE, "--incumbent", "other.safetensors", files=gate.declared)
    assert ran.ending == (0, "pass")
    (notice,) = ran.report["notices"]
    assert notice.startswith("compared with other.safetensors (")
    assert "which is not the incumbent that " in notice
    ran = gate.once(*WORSE, "--incumbent", WEIGHTS, files=gate.declared)
    assert (ran.ret, ran.report["notices"]) == (1, [])


# The acceptance.


@pytest.fixture
def accepting(pytester, monkeypatch, runs):
    zoo = GatedZoo(pytester, tests=TESTS)
    zoo.bind(BOUND)
    monkeypatch.chdir(zoo.root)
    (zoo.root / "reports").mkdir()
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    zoo.save("first.safetensors", seed=3, jitter=0.01)
    zoo.save("second.safetensors", seed=4, jitter=0.01)
    zoo.incumbent, zoo.declaration = zoo.root / WEIGHTS, zoo.root / DECLARATION
    return zoo


def accept(*arguments) -> int:
    return main(["accept", *arguments, "--", "--stress-set", "data=npz:zoo.npz"])


def consistent(zoo) -> bool:
    found = read_declaration(zoo.declaration)
    found.expect_weights()
    return not pending_of(zoo.incumbent).exists()


def test_the_first_model_is_accepted_declared_and_followed(accepting, capsys):
    """A declaration of no incumbent gives way to it.

    Before, nothing is compared, and the verdict is not partial.
    """
    accepting.declaration.write_bytes(declaration_of_none())
    assert accept("first.safetensors") == 0
    assert NAMED in capsys.readouterr().out
    assert read_declaration(accepting.declaration).weights == accepting.incumbent
    assert consistent(accepting)
    assert accept("second.safetensors") == 0
    assert consistent(accepting)


@pytest.mark.parametrize("lost", ["gone", "other"])
def test_nothing_is_accepted_past_a_declared_incumbent_but_by_force(accepting, capsys, lost):
    shutil.copy("first.safetensors", accepting.incumbent)
    before = declaration(accepting.incumbent)
    accepting.declaration.write_bytes(before)
    accepting.incumbent.unlink()
    if lost == "other":
        shutil.copy("worse.safetensors", accepting.incumbent)
        assert (
            main(
                [
                    "compare",
                    "worse.safetensors",
                    "--data",
                    "npz:zoo.npz",
                    "--output",
                    "compare.html",
                ]
            )
            == 2
        )
        assert "models/incumbent.safetensors: has the SHA-256 " in capsys.readouterr().err
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
        if (
            step == "replace"
        ):  # Of the weights alone; other files are written by a replacement, too.
            whole = Path.replace
            patched.setattr(
                Path, step, lambda at, to: killed() if at.suffix == ".accepted" else whole(at, to)
            )
        else:
            patched.setattr(acceptance, step, killed)
        assert accept("second.safetensors") == 130
    result = accepting.run(*WORSE)
    assert result.ret == (4 if step == "replace" else 1)
    if step == "replace":
        result.stderr.fnmatch_lines(
            ["*acceptance was interrupted, finish it: mv *.incumbent.safetensors.accepted *"]
        )
    assert accept("second.safetensors") == 0
    assert consistent(accepting)
    assert accepting.run(*WORSE).ret == 1
