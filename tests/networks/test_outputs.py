"""Networks that answer with something around their logits, and callables that are scripts."""

import collections

import pytest
import torch
from test_networks import Small, images_of
from torch import nn

from harness.base.errors import InputError
from harness.inference import Classifier
from harness.networks.declared import DeclaredNetwork, expect_fit
from harness.networks.options import Builder

Answer = collections.namedtuple("Answer", ["logits", "aux_logits"])


class Around(nn.Module):
    """A network whose logits stand within something."""

    def __init__(self, put) -> None:
        super().__init__()
        self.inner, self.put = Small(), put

    def forward(self, x):
        return self.put(self.inner(x))


def around(put):
    return DeclaredNetwork(Around(put), normalization=None, probabilities=False).eval()


@pytest.mark.parametrize(
    ("put", "said"),
    [
        pytest.param(lambda y: {"logits": y, "hidden": [y]}, "'logits' of the dict", id="dict"),
        pytest.param(lambda y: {"out": y, "aux": y}, "'out' of the dict", id="out"),
        pytest.param(lambda y: Answer(y, y), ".logits of the Answer", id="object"),
        pytest.param(lambda y: (y, y[:, :2], None), "the first of the 3", id="tuple"),
        pytest.param(lambda y: y, "", id="tensor"),
    ],
)
def test_logits_are_taken_out_and_it_is_said_where(put, said):
    model, images = around(put), images_of(size=(8, 8))
    assert said in expect_fit(model, images, outputs=None)
    expected = model.network.inner(images.pixels.float() / 255).detach()
    classifier = Classifier(model, workers=1)
    assert classifier.fingerprint is not None, "it is traced all the same"
    logits = torch.from_numpy(classifier.predict(images).logits)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("put", "found"),
    [
        (lambda y: {"logits": y, "out": y}, "a dict of 'logits', 'out'"),
        (lambda y: {"scores": y}, "a dict of 'scores'"),
        (lambda y: (y, y), r"a tuple of \(8, 4\), \(8, 4\)"),
        (lambda _: None, "a NoneType"),
    ],
    ids=["both", "neither", "two-alike", "none"],
)
def test_what_might_be_either_or_is_none_is_an_error(put, found):
    with pytest.raises(InputError, match=f"the model returned {found}; expected logits"):
        expect_fit(around(put), images_of(size=(8, 8)), outputs=None)


SCRIPTS = {
    "arguments": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n",
        "ended the",
    ),
    "exit": ("import sys\nsys.exit(3)\n", "it raised SystemExit: 3"),
    "input": ("input('which? ')\n", "it asked for input"),
}


@pytest.mark.parametrize(("code", "happened"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_says_what_happened_when_it_was_imported(tmp_path, monkeypatch, code, happened):
    (tmp_path / "train_it.py").write_text(f"{code}\ndef build():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match='__name__ == "__main__"') as caught:
        Builder("train_it:build", {})
    assert happened in str(caught.value)


def test_a_script_does_not_read_our_command_line(tmp_path, monkeypatch):
    code = (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=1)\nARGS "
        "= p.parse_args()\n"
    )
    (tmp_path / "tuned.py").write_text(f"{code}\ndef build():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", before := ["pytest", "stress_tests", "--candidate", "x"])
    assert Builder("tuned:build", {}).function.__name__ == "build"
    assert __import__("sys").argv is before
    with pytest.raises(
        InputError, match=r"cannot be imported \(.*no attribute 'Smal'; it has .*Small.*"
    ):
        Builder("test_networks:Smal", {})
