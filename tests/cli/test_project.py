"""Commands in a repository with a gate.

The table of its own checks file says which data and network.
"""

import json

import click
import pytest
from zoo import Zoo

from harness.base.errors import InputError
from harness.checks import read_checks
from harness.checks.edits import with_settings
from harness.cli import main
from harness.cli.group import commands
from harness.run.settings import SETTINGS, option_of_pytest

GOOD, OTHER, THIRD = "good.safetensors", "shaken.safetensors", "third.safetensors"
FEW = ("--samples", "8")


LOADING = {
    "evaluate": ("evaluate", GOOD),
    "break": ("break", GOOD),
    "break-image": ("break", GOOD, "--image", "1"),
    "compare": ("compare", GOOD, OTHER),
    "equal": ("equal", GOOD, "--original", OTHER),
    "skew": ("skew", GOOD, "--served", "served.csv"),
    "init": ("init", "--families", "flip", "--budget", "none"),
    "golden-add": ("golden", "add", "0", "--reason", "seen"),
    "golden-declare": ("golden", "list", "--declare"),
    "calibrate": ("calibrate", "--checkpoints", GOOD, OTHER, THIRD),
    "export-inputs": ("export-inputs", "inputs"),
    "leakage": ("leakage", "--train", "npz:zoo.npz"),
    "shortcuts": ("shortcuts", "--train", "npz:zoo.npz"),
}
"""Command lines that load data, or have a run of the gate load them."""
OF_THE_GATE = {"gate", "accept"}
"""Their child process reads the configuration itself."""
WITHOUT_DATA = {
    "report",
    "rank",
    "history",
    "list",
    "docs",
    "schema",
    "train",
    "convert",
    "cache",
    "fetch-data",
} | {*("attest", "card", "badge", "evidence")}
"""They load none, or say in their help that theirs are Fashion-MNIST."""
each_command = pytest.mark.parametrize("arguments", LOADING.values(), ids=LOADING)


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    zoo = Zoo(tmp_path)
    for number, name in enumerate((GOOD, OTHER, THIRD)):
        zoo.save(name, jitter=float(number), seed=number)
    monkeypatch.chdir(tmp_path)
    return zoo


@pytest.fixture
def loaded(monkeypatch):
    """The data that commands load. A command ends there, or where a run of the gate would start."""
    specs = []

    def load(spec, **_):
        specs.append(spec)
        raise InputError("stopped")

    def start(command, *_, **__):
        specs.append("in a run")
        raise InputError("stopped")

    monkeypatch.setattr("harness.data.sources.load_images", load)
    monkeypatch.setattr("harness.run.inner._captured", start)
    return specs


def configure(zoo, **table) -> None:
    zoo.checks.write_text(with_settings(zoo.checks.read_text(), table))


def test_every_command_is_known_here():
    known = {arguments[0] for arguments in LOADING.values()}
    assert (
        set(commands.list_commands(click.Context(commands))) == known | OF_THE_GATE | WITHOUT_DATA
    )


@each_command
def test_a_command_takes_the_data_of_the_table(zoo, loaded, arguments, capsys):
    configure(zoo, data="npz:zoo.npz")
    main(arguments)
    assert (
        capsys.readouterr().out.splitlines()[0]
        == "data: npz:zoo.npz (from stress_tests/checks.toml)"
    )
    assert set(loaded) in ({"npz:zoo.npz"}, {"in a run"}) or arguments[1] == "list", (
        "no image is golden yet"
    )


@each_command
def test_a_command_without_named_data_loads_none(zoo, loaded, arguments, capsys):
    assert main(arguments) in {2, 4}
    out, err = capsys.readouterr()
    why = (
        "no data are named: stress_tests/checks.toml is made for 'zoo', and "
        "stress_tests/checks.toml"
    )
    assert err.startswith(f"error: [CONFIGURATION] {why}")
    assert "--data" in err
    assert (out, loaded) == ("", [])


@each_command
def test_a_command_in_another_folder_loads_none(tmp_path, loaded, arguments, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in {2, 4}
    out, err = capsys.readouterr()
    assert "no data are named: there is no stress_tests/checks.toml" in err
    assert (out, loaded) == ("", [])


def test_a_checks_file_for_the_shipped_data_names_them(zoo, loaded, capsys):
    zoo.checks.write_text(zoo.checks.read_text().replace('name = "zoo"', 'name = "fashion-mnist"'))
    main(["evaluate", GOOD])
    assert capsys.readouterr().out.startswith(
        "data: fashion-mnist (from stress_tests/checks.toml)\n"
    )
    assert loaded == ["fashion-mnist"]


def test_an_option_wins_over_the_configuration(zoo, capsys):
    configure(zoo, data="npz:none.npz", size=9)
    assert main(["evaluate", GOOD, "--data", "npz:zoo.npz", "--set", "size=16"]) == 0
    assert capsys.readouterr().out.startswith(
        "data: npz:zoo.npz, size 16 (from the command line)\n"
    )


def test_beside_json_the_line_is_on_standard_error(zoo, capsys):
    configure(zoo, data="npz:zoo.npz")
    assert main(["evaluate", GOOD, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["clean_accuracy"] > 0.8
    assert err == "data: npz:zoo.npz (from stress_tests/checks.toml)\n"


def test_the_network_is_that_of_the_table(zoo, capsys):
    (zoo.root / "own.py").write_text(
        "from harness.networks.architectures import FashionCNN\n\n\ndef network(width):\n    "
        "return FashionCNN(conv_channels=[width], fc_sizes=[], image_size=[16, 16], classes=4, "
        "mean=0.0, std=1.0)\n"
    )
    configure(zoo, data="npz:zoo.npz", model="own:network", model_args={"width": 1})
    assert main(["compare", GOOD, OTHER, *FEW]) == 0
    assert "good" in (out := capsys.readouterr().out)
    assert "shaken" in out


@pytest.fixture
def booby_trapped(zoo):
    """A repository with a foreign checks file.

    Its table names code that ends the process where it is imported.
    """
    (zoo.root / "trap.py").write_text("import os\nos._exit(7)\n")
    trap = {
        "data": "trap:images",
        "model": "trap:network",
        "transform": "trap:pixels",
        "unknown": "trap:images",
    }
    foreign = zoo.root / "foreign.toml"
    foreign.write_text(with_settings(zoo.checks.read_text(), trap))
    return foreign, trap


def test_the_table_of_a_foreign_checks_file_is_not_read(zoo, booby_trapped, capsys):
    foreign, _ = booby_trapped
    configure(zoo, data="npz:zoo.npz")
    assert read_checks(foreign).sha256 == read_checks(zoo.checks).sha256
    assert main(["golden", "add", "0", "--reason", "seen", "--checks", str(foreign)]) == 0
    assert capsys.readouterr().out.startswith("data: npz:zoo.npz (from stress_tests/checks.toml)\n")
    assert "trap:images" in foreign.read_text()


def test_listing_imports_nothing_that_the_table_names(zoo, booby_trapped, capsys):
    configure(zoo, **booby_trapped[1])
    for what in ("checks", "settings", "metrics", "sources", "predictors"):
        assert main(["list", what]) == 0
    assert main(["history", "none.jsonl"]) == 2
    out = capsys.readouterr().out
    assert all(f"\n{option_of_pytest(name)} " in out for name in SETTINGS)


def test_an_option_that_a_command_no_longer_has_names_what_to_give(zoo, capsys):
    assert main(["evaluate", GOOD, "--channels", "1"]) == 2
    assert (
        "--channels is a setting of the project; give --set channels=VALUE"
        in capsys.readouterr().err
    )
