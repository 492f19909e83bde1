"""The command `compare`: a table, a page, and refusals that say why."""

import csv
import json
import re

import pytest
import torch
from zoo import ARGUMENTS, CLASSES, Zoo, network

from harness import cli
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.overview import Clean, Everywhere, Overview, Surviving


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    place = Zoo(tmp_path)
    place.save("good.safetensors")
    place.save("shaken.safetensors", jitter=4.0, seed=1)
    return place


def compare(zoo, *arguments):
    return cli.main(["compare", "shaken.safetensors", "good.safetensors", "--data", zoo.data, *arguments])


def test_the_table_and_the_page_say_the_same(zoo, capsys):
    assert compare(zoo) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +shaken +good +difference$", out, re.MULTILINE)
    clean = re.search(r"^right on images as they are +([\d.]+%) +([\d.]+%) +([+-][\d.]+) points$", out, re.MULTILINE)
    assert clean is not None
    assert float(clean[1][:-1]) - float(clean[2][:-1]) == pytest.approx(float(clean[3]), abs=0.11)
    for name in CLASSES:
        assert re.search(rf"^  {name} +\d", out, re.MULTILINE)
    assert "page: reports/compare.html" in out
    page = (zoo.root / "reports/compare.html").read_text()
    assert clean[1] in page
    assert clean[2] in page
    assert "<title>shaken against good</title>" in page


def test_failures_are_compared_by_kind_and_written_down(zoo, capsys):
    assert compare(zoo, "--failures", "out/changes.csv") == 0
    out = capsys.readouterr().out
    titles = ["shaken", "good", "new", "fixed", "shared", "shaken, moved", "good, moved"]
    assert re.search(rf"^kind +{' +'.join(titles)}$", out, re.MULTILINE)
    counts = re.search(r"^any error +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+% +[\d.]+%$", out, re.MULTILINE)
    mine, theirs, new, fixed, shared = map(int, counts.groups())
    assert (new + shared, fixed + shared) == (mine, theirs)
    rows = [
        row
        for row in csv.DictReader((zoo.root / "out/changes.csv").read_text().splitlines())
        if row["kind"] == "any error"
    ]
    assert [[row["change"] for row in rows].count(name) for name in ("new", "fixed", "shared")] == [new, fixed, shared]
    for row in rows:
        assert (row["predicted"] != row["true"]) == (row["change"] != "fixed")
        assert (row["predicted before"] != row["true"]) == (row["change"] != "new")
        assert float(row[f"before P({row['predicted before']})"]) == float(row["confidence before"])
    assert 'id="report-failures"' in (zoo.root / "reports/compare.html").read_text()


def test_json_holds_all_that_the_page_shows(zoo, capsys):
    assert compare(zoo, "--json", "--output", "out/page.html", "--samples", "200") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("page") == "out/page.html"
    flips = found.pop("flips")
    some = Overview.from_wire(json.dumps(found))
    assert [model.name for model in some.models] == ["shaken", "good"]
    assert some.n == 200
    mine, theirs = (model[Clean].accuracy.value for model in some.models)
    assert flips["net"] == pytest.approx(mine - theirs)
    assert all(model[Everywhere].right_everywhere and model[Surviving].survival for model in some.models)
    assert (zoo.root / "out/page.html").exists()


def test_checkpoints_of_one_name_are_told_apart(zoo, capsys):
    (zoo.root / "old").mkdir()
    zoo.save("old/good.safetensors", jitter=4.0)
    assert cli.main(["compare", "good.safetensors", "old/good.safetensors", "--data", zoo.data, "--json"]) == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out)["models"]] == ["A", "B"]


def test_a_network_of_ones_own_is_built_by_its_callable(zoo, capsys, monkeypatch):
    (zoo.root / "my_models.py").write_text(
        "from torch import nn\n\ndef build(width):\n    return nn.Sequential(nn.Flatten(), nn.Linear(width, 4))\n"
    )
    monkeypatch.syspath_prepend(zoo.root)
    for name in ("a", "b"):
        own_model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4))
        torch.save(own_model.state_dict(), zoo.root / f"{name}.pth")
    own = ["--stress-model", "my_models:build", "--stress-model-arg", "width=256"]
    assert cli.main(["compare", "a.pth", "b.pth", "--data", zoo.data, *own]) == 0
    assert "attention" not in capsys.readouterr().out, "there is no convolution to look at"


def test_what_cannot_be_compared_is_refused(zoo, capsys):
    assert cli.main(["compare", "good.safetensors", "models/augmented.safetensors", "--data", zoo.data]) == 2
    assert "hold the same network; there is nothing to compare" in capsys.readouterr().err
    assert cli.main(["compare", "good.safetensors", "none.safetensors", "--data", zoo.data]) == 2
    assert "REFUSED[NOT_REGULAR]" in capsys.readouterr().err
    save_checkpoint(zoo.root / "nan.safetensors", network(), Record("fashion-cnn", ARGUMENTS, CLASSES))
    assert cli.main(["compare", "good.safetensors", "nan.safetensors"]) == 2
    assert "good.safetensors: " in capsys.readouterr().err, "the data are of another size"
    assert not (zoo.root / "reports").exists()
