"""The command `compare`: a table, a page, and refusals that say why."""

import csv
import html
import json
import re
import shlex
import shutil
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from zoo import ARGUMENTS, CLASSES, Zoo, network

from harness import cli
from harness.base.records import read_record
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.overview import Overview


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Zoo(tmp_path_factory.mktemp("zoo"))
    made.save("good.safetensors")
    made.save("shaken.safetensors", jitter=4.0, seed=1)
    return made


@pytest.fixture
def zoo(place, monkeypatch):
    monkeypatch.chdir(place.root)
    return place


def compare(zoo, *arguments):
    return cli.main(
        ["compare", "shaken.safetensors", "good.safetensors", "--data", zoo.data, *arguments]
    )


@pytest.fixture(scope="module")
def compared(place):
    """Output of `compare --failures` for the two."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.chdir(place.root)
        patched.setenv("XDG_CACHE_HOME", str(place.root / "cache"))
        assert compare(place, "--failures", "out/changes.csv", "--output", "out/compare.html") == 0
    return (
        printed.getvalue(),
        (place.root / "out/compare.html").read_text(),
        place.root / "out/changes.csv",
    )


def test_the_table_and_the_page_say_the_same(compared):
    out, page, _ = compared
    assert re.search(r"^ +shaken +good +difference$", out, re.MULTILINE)
    clean = re.search(
        r"^clean accuracy +([\d.]+%) +([\d.]+%) +([+-][\d.]+) points$", out, re.MULTILINE
    )
    assert clean is not None
    assert float(clean[1][:-1]) - float(clean[2][:-1]) == pytest.approx(float(clean[3]), abs=0.11)
    for name in CLASSES:
        assert re.search(rf"^  {name} +\d", out, re.MULTILINE)
    assert "page: out/compare.html" in out
    assert clean[1] in page
    assert clean[2] in page
    assert "<title>shaken against good</title>" in page


def test_failures_are_compared_by_kind_and_written_down(compared):
    out, page, table = compared
    titles = ["shaken", "good", "new", "fixed", "shared", "shaken, corners", "good, corners"]
    assert re.search(rf"^kind +{' +'.join(titles)}$", out, re.MULTILINE)
    counts = re.search(
        r"^any error +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+% +[\d.]+%$", out, re.MULTILINE
    )
    mine, theirs, new, fixed, shared = map(int, counts.groups())
    assert (new + shared, fixed + shared) == (mine, theirs)
    rows = [
        row for row in csv.DictReader(table.read_text().splitlines()) if row["kind"] == "any error"
    ]
    assert [[row["change"] for row in rows].count(name) for name in ("new", "fixed", "shared")] == [
        new,
        fixed,
        shared,
    ]
    for row in rows:
        assert (row["predicted"] != row["true"]) == (row["change"] != "fixed")
        assert (row["predicted before"] != row["true"]) == (row["change"] != "new")
        assert float(row[f"before P({row['predicted before']})"]) == float(row["confidence before"])
    assert 'id="report-failures"' in page


def test_json_holds_all_that_the_page_shows(zoo, capsys):
    assert compare(zoo, "--json", "--output", "out/page.html", "--samples", "60") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("page") == "out/page.html"
    flips = found.pop("flips")
    some = read_record(Overview, found, where="the output")
    assert [model.name for model in some.models] == ["shaken", "good"]
    assert some.n == 60
    mine, theirs = (model.accuracy.value for model in some.models)
    assert flips["net"] == pytest.approx(mine - theirs)
    assert all(model.corners and model.calibration_error for model in some.models)
    assert (zoo.root / "out/page.html").exists()


def test_checkpoints_of_one_name_are_told_apart(zoo, capsys):
    zoo.save("old/good.safetensors", jitter=4.0)
    pair = ["good.safetensors", "old/good.safetensors"]
    assert cli.main(["compare", *pair, "--data", zoo.data, "--samples", "8", "--json"]) == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out)["models"]] == ["A", "B"]


def test_a_network_of_ones_own_is_built_by_its_callable(zoo, capsys, monkeypatch):
    (zoo.root / "my_models.py").write_text(
        "from torch import nn\n\ndef build(width):\n    return nn.Sequential(nn.Flatten(), "
        "nn.Linear(width, 4))\n"
    )
    monkeypatch.syspath_prepend(zoo.root)
    for name in ("a", "b"):
        own_model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4))
        torch.save(own_model.state_dict(), zoo.root / f"{name}.pth")
    own = ["--model", "my_models:build", "--set", "model_args.width=256"]
    assert cli.main(["compare", "a.pth", "b.pth", "--data", zoo.data, "--samples", "8", *own]) == 0
    assert "clean accuracy" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(zoo, capsys):
    save_checkpoint(
        zoo.root / "copy.safetensors", network(), Record("fashion-cnn", ARGUMENTS, CLASSES)
    )

    def refused(first, second, *data):
        assert cli.main(["compare", first, second, *data, "--output", "refused.html"]) == 2
        return capsys.readouterr().err

    same = refused("good.safetensors", "copy.safetensors", "--data", zoo.data)
    assert "hold the same network; there is nothing to compare" in same
    assert "REFUSED[NOT_REGULAR]" in refused(
        "good.safetensors", "none.safetensors", "--data", zoo.data
    )
    other = refused("good.safetensors", "copy.safetensors", "--data", "fashion-mnist")
    assert "good.safetensors: " in other, "the data are of another size"
    assert not (zoo.root / "refused.html").exists()


def test_the_page_says_how_to_reproduce_the_comparison(zoo, capsys):
    """With the sample, the network and the pipeline, and whatever a shell would split."""
    shutil.copy(zoo.root / "shaken.safetensors", zoo.root / "it's shaken.safetensors")
    first = [
        "it's shaken.safetensors",
        "good.safetensors",
        "--data",
        zoo.data,
        "--samples",
        "60",
        "--set",
        "crop=16",
    ]
    assert cli.main(["compare", *first, "--set", "normalization=0,1", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    page = (zoo.root / "reports/compare.html").read_text()
    command = html.unescape(re.search(r"stress-harness compare [^<]*", page)[0])
    assert cli.main([*shlex.split(command)[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    for option in ("--samples=60", "--set=crop=16", "--set=normalization=0,1"):
        assert option in command


def test_three_models_are_refused_and_rank_is_named(zoo, capsys):
    models = ["shaken.safetensors", "good.safetensors", "c.safetensors"]
    assert cli.main(["compare", *models, "--data", zoo.data]) == 2
    said = "error: [USAGE] compare takes two models, not 3; `stress-harness rank` ranks "
    assert capsys.readouterr().err.startswith(said)


def test_one_model_alone_is_compared_with_the_incumbent(zoo, capsys):
    assert cli.main(["compare", "shaken.safetensors", "--data", zoo.data, "--samples", "8"]) == 2
    assert "there is no incumbent yet" in capsys.readouterr().err
    zoo.save("models/incumbent.safetensors", jitter=0.1)
    assert (
        cli.main(["compare", "shaken.safetensors", "--data", zoo.data, "--samples", "8", "--json"])
        == 0
    )
    names = [model["name"] for model in json.loads(capsys.readouterr().out)["models"]]
    (zoo.root / "models/incumbent.safetensors").unlink()
    assert names == ["shaken", "incumbent"]
