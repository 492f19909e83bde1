"""Models with a user's code are asked again in other processes.

So do the gate, `equal` and `skew`.
"""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo import images_of, network

from harness.base.errors import InputError
from harness.data import sample_up_to
from harness.features.served_models.audit import Audit
from harness.inference import anew, open_model
from harness.inference.predictors.kinds import model_spec
from harness.networks import NetworkOptions
from harness.run.inputs import expect_data_of
from harness.run.steadiness import expect_steady, unsteady

CODE = """
import os
import numpy as np
from harness.networks.architectures import FashionCNN

class Net(FashionCNN):
    def forward(self, pixels):
        logits = super().forward(pixels)
        return -logits if {other} else logits

def build():
    return Net(conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0)
"""
CALLABLE = """
import os
import numpy as np

calls = 0

def answer(pixels):
    global calls
    calls += 1
    parts = pixels.reshape(len(pixels), 4, -1).mean(axis=2).astype(np.float32)
    return -parts if {other} else parts
"""


@pytest.fixture
def opened(tmp_path, monkeypatch, request):
    """Open a network, or a callable, that answers otherwise on a condition."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(anew, "SEEDS", ("10",))
    name = f"odd_{abs(hash(request.node.name))}"

    def build(code, other):
        (tmp_path / f"{name}.py").write_text(code.format(other=other))
        sys.modules.pop(name, None)
        if code is CALLABLE:
            return open_model(model_spec(f"python:{name}:answer"), images_of(400), ordered=False)
        torch.save(network().state_dict(), tmp_path / "net.pth")
        options = NetworkOptions(model=f"{name}:build")
        return open_model(tmp_path / "net.pth", images_of(400), network=options)

    return build


ELSEWHERE = f"(os.getpid() != {os.getpid()})"


@pytest.mark.parametrize(
    ("code", "other", "message"),
    [
        (
            CODE,
            ELSEWHERE,
            "in another process, 32 of 32 images get other logits.*depend on the process",
        ),
        (
            CALLABLE,
            "len(pixels) <= 3",
            "one by one, without padding in another process, 16 of 16 images",
        ),
        (
            CALLABLE,
            "calls > 15",
            "predictions of this run are others when predicted anew.*it keeps state",
        ),
    ],
    ids=["network", "few", "calls"],
)
def test_a_model_that_answers_otherwise_elsewhere_or_later_is_refused(opened, code, other, message):
    model, images = opened(code, other), images_of(400)
    model.predict(images)
    with pytest.raises(InputError, match=message) as error:
        expect_steady([model], images)
    assert error.value.code == "SELF_CHECK"


def test_a_steady_one_is_not(opened):
    assert not unsteady([opened(CODE, "False")], images_of(400))


@pytest.mark.processes
def test_a_model_that_opens_nowhere_else_is_refused_with_its_reason(opened):
    model = opened(CODE, f"1 // ({ELSEWHERE} - 1)")
    with pytest.raises(InputError, match="in another process, the model cannot be opened or asked"):
        expect_steady([model], images_of(400))


def test_a_shipped_architecture_needs_no_other_process(monkeypatch, tmp_path):
    from zoo import Zoo

    monkeypatch.setattr(anew, "call_in_child", None)
    model = open_model(Zoo(tmp_path).save("net.safetensors"), images_of(400))
    assert not unsteady([model], images_of(400))


@pytest.mark.parametrize("size", [4, 31, 32])
def test_an_audit_repeats_a_whole_batch_at_other_places(size):
    images, answers = np.arange(size), np.arange(size) % 3
    audit = Audit(np.array([-1]), np.array([-1]))
    assert audit.note(images, answers)
    again, before = audit.begin()
    assert sorted(again) == [-1, *range(size)]
    assert (again[:size] != images).all()
    assert (before == np.where(again < 0, -1, again % 3)).all()


def test_classes_in_another_order_than_the_datas_are_refused(tmp_path):
    from zoo import Zoo

    from harness.checks import read_checks

    zoo = Zoo(tmp_path)
    checks, names = read_checks(zoo.checks), list(zoo.images.classes)

    def named(*classes):
        return replace(checks, data=replace(checks.data, classes=classes))

    expect_data_of(named(*names), zoo.images)
    expect_data_of(named("one", "two", "three", "four"), zoo.images)
    with pytest.raises(InputError, match=r"\[data\] classes has .* in another place than the data"):
        expect_data_of(named(names[1], names[0], *names[2:]), zoo.images)


@pytest.mark.processes
def test_files_of_pictures_reach_the_other_process(tmp_path, monkeypatch):
    """A callable that decodes pictures gets the same files there."""
    from PIL import Image

    from harness.data import load_images

    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            image = np.full((8, 8), 30 * (label * 4 + number), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / name / f"{number}.jpg")
    (tmp_path / "decoding.py").write_text(
        "import numpy as np\n\ndef answer(files):\n    lengths = [len(file) + 1000 * (file[:2] == "
        "b'\\xff\\xd8') for file in files]\n    return np.array([[n, 0] for n in lengths], "
        "dtype=np.float32)\n\nanswer.pixels = 'encoded'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(anew, "SEEDS", ("10",))
    images = load_images(f"folder:{tmp_path / 'data'}")
    model = open_model(model_spec("python:decoding:answer"), images, ordered=False)
    assert model.predict(sample_up_to(images, 8)).answers.max() > 1000
    assert not unsteady([model], images)
