"""An export has the images of the checks, each once.

It is whole, resumable, and alone in its folder.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from recorded_answers import manifest, order
from zoo import ROWS, asked_to_record

from harness.base.errors import InputError
from harness.data.exported import Export, hash_of_names, names_of
from harness.data.images import unit_range
from harness.features.exports import image_export
from harness.perturb import Pose

TESTS = ("clean", "rotation", "confident_errors")
SEARCH = "".join(
    f'\n[[check]]\nid = "{metric.replace("_", "-")}"\nfamily = "search"\nmetric = "{metric}"\n'
    f"{key}\n"
    for metric, key in (
        ("accuracy", "within = { degrees = 10, dx = 2, dy = 2 }"),
        ("unchanged_share", "within = { degrees = 10, dx = 2, dy = 2 }"),
        ("robust_accuracy", 'grid = "augmentation-range"'),
    )
)


@pytest.fixture
def export(zoo):
    """Return what exports the images of the zoo in this process, and reads them again."""

    def run(*options, folder="inputs", **ordered):
        with asked_to_record(None, **order(zoo.root / folder, **ordered)):
            result = zoo.run("--stress-plan", "-s", *options)
        return SimpleNamespace(
            status=result.ret, said=result.stdout.str(), folder=zoo.root / folder
        )

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_holds_each_image_under_each_perturbation_once(zoo, export):
    done = export()
    assert done.status == 0
    names, pixels, index, perturbation = np.load(done.folder / "shard-00000.npz").values()
    said = manifest(done.folder)
    assert len(names) == len(set(names)) == said["images"] == 800
    assert names.dtype.kind == "U", "text stays itself in a table of answers"
    assert np.array_equal(names_of(pixels).astype(str), names)
    assert [each["perturbation"] for each in said["perturbations"]] == [
        str(Pose()),
        str(Pose(10.0)),
    ]
    assert said["perturbations"][1]["checks"]["rotate-ccw-010"] == 400
    for number, pose in enumerate((Pose(), Pose(10))):
        of_it = perturbation == number
        assert np.array_equal(
            pixels[of_it], pose(unit_range(zoo.images.pixels[index[of_it]])).numpy()
        )
    line = Export.read(said["export"])
    assert (line.images, line.names, line.data) == (800, hash_of_names(names), zoo.images.sha256)


WITH_FIXTURES = """
import pytest
from harness.measures import accuracy
from harness.plugin import check

@pytest.fixture(scope="session")
def answers(candidate, images):
    return candidate.predict(images)

@pytest.fixture
def posed_answers(request, images, stress_check):
    yield request.getfixturevalue("candidate").predict(images, stress_check.pose)

@pytest.fixture
def log(tmp_path):
    with open(tmp_path / "log.txt", "w") as file:
        yield file

@check("clean")
def test_clean(answers, log, evidence, stress_check):
    log.write("clean")
    evidence.show(stress_check.judge(accuracy(answers)))

@check("rotation")
def test_rotation(posed_answers, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(posed_answers)))
"""


@pytest.mark.parametrize("budget", [(), ("--stress-budget", "1h")], ids=["whole", "budget"])
def test_it_holds_the_images_that_fixtures_ask_about(zoo, export, budget):
    for path in zoo.tests.glob("test_*.py"):
        path.unlink()
    (zoo.tests / "test_own.py").write_text(WITH_FIXTURES)
    done = export(*budget)
    assert done.status == 0
    assert "failed without a model" not in done.said
    asked = {
        name: each["perturbation"]
        for each in manifest(done.folder)["perturbations"]
        for name in each["checks"]
    }
    assert asked == {
        "clean": str(Pose()),
        "clean-bee": str(Pose()),
        "rotate-ccw-010": str(Pose(10.0)),
        "confident-errors": str(Pose()),  # The test that ships.
    }


def test_an_interrupted_export_resumes(export, monkeypatch):
    monkeypatch.setattr(image_export, "SHARD_BYTES", 100 * 16 * 16 * 4)
    done = export()
    whole = contents(done.folder)
    assert sum(name.startswith("shard") for name in whole) == 8
    (done.folder / "manifest.json").unlink()
    (done.folder / "shard-00003.npz").unlink()
    (done.folder / "shard-00005.npz").write_bytes(whole["shard-00005.npz"][:-500])
    with np.load(done.folder / "shard-00006.npz") as file:
        arrays = dict(file)
    np.savez(
        done.folder / "shard-00006.npz", **{**arrays, "pixels": arrays["pixels"] * np.float32(0.5)}
    )
    (done.folder / "answers.npz").write_bytes(b"a user's")
    kept = (done.folder / "shard-00000.npz").stat().st_mtime_ns
    assert "5 of them from an earlier run" in export().said
    assert contents(done.folder) == whole | {"answers.npz": b"a user's"}
    assert (done.folder / "shard-00000.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", ["notes.txt", "shard-00000.npz"])
def test_a_folder_with_other_files_is_left_alone(zoo, export, name):
    (zoo.root / "inputs").mkdir()
    (zoo.root / "inputs" / name).write_text("mine")
    done = export()
    assert (done.status, "has other files in it" in done.said) == (4, True)
    assert contents(done.folder) == {name: b"mine"}


def test_another_export_is_not_overwritten(zoo, export):
    before = contents(export(families=("clean",)).folder)
    line = manifest(zoo.root / "inputs")
    assert (line["images"], Export.read(line["export"]).families) == (400, ("clean",))
    done = export()
    assert (done.status, "holds another export" in done.said) == (4, True)
    assert contents(done.folder) == before
    refused = export(families=("clean", "nope"), folder="other")
    assert (refused.status, "--families nope: no check is of this family" in refused.said) == (
        4,
        True,
    )


def test_the_size_is_told_first_and_no_disk_is_filled(export, monkeypatch):
    monkeypatch.setattr(
        image_export.shutil,
        "disk_usage",
        lambda _: SimpleNamespace(free=image_export.MARGIN + 1_000),
    )
    done = export()
    assert done.status == 4
    assert "800 images of 1x16x16 under 2 perturbations: at most 1.0 MB" in done.said
    assert "0.3 GB are free. Name a folder on another disk" in done.said
    assert not done.folder.exists()


@pytest.mark.zoo(ROWS.replace("hand = { threshold = 0.5 }\n", ""))
def test_a_budget_leaves_samples_of_families_without_thresholds_by_hand(export):
    done = export("--stress-budget", "4s")
    line = Export.read(manifest(done.folder)["export"])
    assert done.status == 0
    assert list(line.samples) == ["rotation"]
    assert line.samples["rotation"] < 400
    assert 400 < line.images < 800


@pytest.mark.zoo(ROWS + SEARCH, tests=(*TESTS, "drawn_pose", "worst_pose"))
def test_a_grid_is_exported_whole_and_no_pose_that_hypothesis_draws(zoo, export):
    done = export("--stress-samples", "40")
    assert manifest(done.folder)["images"] == 40 * 225
    assert "failed without a model" not in done.said
    (zoo.tests / "test_rotation.py").write_text(
        "from harness.plugin import check\n\n\n@check('rotation')\n"
        "def test_it(candidate, stress_check):\n    candidate.nothing()\n"
    )
    assert "rotate-ccw-010: its test failed without a model" in export(folder="other").said
    nothing = export(families=("rotation",), folder="none")
    assert (nothing.status, "images of these shapes: none" in nothing.said) == (4, True)


def test_the_line_of_an_export_is_read_again():
    line = Export(
        1, "float32", "d", ("a", "e"), "s", families=("b", "c"), samples={"b": 3}
    ).holding(np.array([b"x"], dtype="S64"))
    assert Export.read(str(line)) == line


@pytest.mark.parametrize("text", ["", "protocol=1", "x y z", "{}", "a=b " * 5_000])
def test_another_line_is_refused(text):
    with pytest.raises(InputError, match="expected the line `export` of the manifest"):
        Export.read(text)


@pytest.mark.processes
def test_the_command_refuses_a_family_without_a_check(zoo, monkeypatch, capsys):
    from harness.cli import main

    monkeypatch.chdir(zoo.root)
    zoo.bind(f'{ROWS}\n[gate]\ndata = "npz:zoo.npz"\n')
    assert main(["export-inputs", "inputs", "--families", "nope"]) == 2
    assert "no check is of this family" in capsys.readouterr().err
