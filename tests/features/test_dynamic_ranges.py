"""Artifacts with ranges that follow from a batch are judged at their serving batch size."""

import json

import numpy as np
import pytest
from dynamic import save_dynamic
from inference_servers import inference_server
from zoo import EQUIVALENCE, ROWS, Zoo, images_of, without_id

from harness.base.errors import InputError
from harness.cli import main
from harness.inference import open_model
from harness.inference.engine import BackendLostError
from harness.inference.predictors.kinds import model_spec
from harness.networks import NetworkOptions
from harness.perturb import Pose
from harness.run.steadiness import expect_steady, other_answers, unsteady

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

ORIGINAL = "models/augmented.safetensors"
WORDS = "dynamic ranges: holds for batches of 1"
OUT = ("dynamic quantization", "static ranges", "predictor_batch=1")
SERVED = """
import numpy as np
import onnxruntime

def answer(pixels):
    session = onnxruntime.InferenceSession("int8.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0]

answer.pixels = "float32"
"""

COARSE = """
import numpy as np

def answer(pixels):
    step = pixels.max() / 3
    rounded = np.round(pixels / step) * step
    return rounded.reshape(len(pixels), 4, -1).mean(axis=2).astype(np.float32)

answer.pixels = "float32"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_dynamic(tmp_path / "int8.onnx")
    return tmp_path


@pytest.fixture
def served_code(folder, monkeypatch):
    """Write the module `serving`, which other processes with one hash seed ask."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("harness.inference.anew.SEEDS", ("10",))
    return (folder / "serving.py").write_text


def predicted_alone(path, images):
    """Return the classes that a session gives images one by one."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = images.pixels.numpy().astype(np.float32) / 255
    return [int(session.run(None, {"x": image[None]})[0].argmax()) for image in pixels]


def opened(spec, batch=None):
    options = NetworkOptions(predictor_batch=batch)
    return open_model(model_spec(spec), images_of(), network=options, ordered=False)


@pytest.mark.parametrize("given", [(), ("--set", "predictor_batch=1")], ids=["default", "given"])
def test_equal_judges_it_as_served_one_by_one(folder, capsys, given):
    zoo = Zoo(folder)
    line = ["equal", "int8.onnx", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "20%"]
    assert main([*line, *given, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    judged = opened("int8.onnx").predict(images_of()).predicted
    assert judged.tolist() == predicted_alone("int8.onnx", images_of())
    assert done["sentence"].endswith(f"; {WORDS}.")
    assert done["artifact"]["batches"] == WORDS
    assert WORDS in (folder / "reports/equal.html").read_text()


@pytest.mark.parametrize(("fixed", "given"), [(None, 8), (None, 32), (8, None), (8, 1)])
def test_larger_batches_are_inconclusive_with_a_way_out(folder, capsys, fixed, given):
    zoo = Zoo(folder)
    save_dynamic(folder / "int8.onnx", batch=fixed)
    more = [] if given is None else ["--set", f"predictor_batch={given}"]
    line = ["equal", "int8.onnx", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "5%"]
    assert main([*line, *more]) == 4
    said = capsys.readouterr().err.lower()
    assert [words for words in (*OUT, "export again") if words not in said] == []
    assert "cache --clear" not in said


def test_a_file_for_batches_of_1_needs_no_setting(folder):
    save_dynamic(folder / "int8.onnx", batch=1)
    assert opened("int8.onnx").as_json()["batches"] == WORDS


def test_a_float_export_holds_for_any_batches(folder):
    model = opened("int8.float.onnx", batch=1)
    assert "batches" not in model.as_json()
    assert not unsteady([model], images_of())


def test_the_order_of_images_changes_no_prediction(folder):
    images, pose = images_of(), Pose(7, 1, 0)
    order = np.random.default_rng(0).permutation(len(images))
    logits = opened("int8.onnx").predict(images, pose).answers
    asked_in_pairs = opened("int8.onnx").classifier
    pairs = asked_in_pairs.predict_pairs(images, order, [pose], np.zeros(len(order), np.int64))
    assert (pairs == logits.argmax(axis=1)[order]).all()


def test_code_is_judged_where_it_says_that_it_is_served_alone(folder, served_code):
    served_code(SERVED)
    alone = opened("python:serving:answer", batch=1)
    alone.predict(images_of())
    expect_steady([alone], images_of())
    assert alone.as_json()["batches"] == "holds for batches of 1"
    with pytest.raises(InputError) as refused:
        expect_steady([opened("python:serving:answer")], images_of())
    assert [words for words in OUT if words not in refused.value.message.lower()] == []


def test_other_batches_are_no_fault_of_the_cache(folder, served_code):
    served_code(COARSE)
    images = images_of()
    images.pixels[:200] = images.pixels[:200] // 5  # In a batch with bright images, all are black.
    model = opened("python:serving:answer")
    model.predict(images)
    said = other_answers(model)
    assert "are others when predicted anew" in said
    assert "depends on the others in its batch" in said
    assert [words for words in OUT if words not in said.lower()] == []
    assert "cache --clear" not in said


def test_a_server_with_dynamic_ranges_is_judged_one_by_one_or_refused(folder):
    session = ort.InferenceSession("int8.onnx", providers=["CPUExecutionProvider"])

    def answer(pixels):
        return session.run(None, {"x": pixels.astype(np.float32)})[0]

    with inference_server(answer, shape=(-1, 1, 16, 16), classes=4) as server:
        alone = opened(server.url, batch=1)
        alone.predict(images_of())
        assert set(server.batches) == {1}
        assert alone.as_json()["batches"] == "holds for batches of 1"
        expect_steady([alone], images_of())
        with pytest.raises((InputError, BackendLostError), match="predictor_batch=1"):
            expect_steady([opened(server.url)], images_of())


@pytest.mark.zoo(EQUIVALENCE + ROWS, tests=("clean", "rotation", "confident_errors", "equivalence"))
class TestGate:
    def test_the_verdict_names_the_batches_it_holds_for(self, zoo):
        save_dynamic(zoo.root / "int8.onnx")
        result = zoo.run("--candidate=int8.onnx", f"--original={ORIGINAL}", page=True)
        report = zoo.report()
        assert (result.ret, report["verdict"]) == (0, "pass")
        assert report["headline"].startswith(f"PASS ({WORDS}): ")
        assert report["candidate"]["batches"] == WORDS
        for name in ("stress.html", "stress.md"):
            assert WORDS in (zoo.root / "reports" / name).read_text()
        result.stdout.fnmatch_lines([f"*{WORDS}*"])

    @pytest.mark.processes
    def test_workers_and_the_cache_give_the_same_answers(self, zoo):
        save_dynamic(zoo.root / "int8.onnx")
        given = ("--candidate=int8.onnx", f"--original={ORIGINAL}")
        reports = []
        for more in (("--stress-no-cache",), (), (), ("-n", "2")):
            assert zoo.run(*given, *more).ret == 0
            reports.append(without_id(zoo.report()))
        assert [report["checks"] for report in reports[1:]] == [reports[0]["checks"]] * 3
        assert {report["headline"] for report in reports} == {reports[0]["headline"]}

    def test_larger_batches_end_with_4(self, zoo):
        save_dynamic(zoo.root / "int8.onnx")
        given = (
            "--candidate=int8.onnx",
            f"--original={ORIGINAL}",
            "--stress-set",
            "predictor_batch=8",
        )
        assert zoo.run(*given).ret == 4
        said = " ".join(each["detail"].lower() for each in zoo.report()["self_checks"])
        assert [words for words in OUT if words not in said] == []
        assert "cache --clear" not in said
