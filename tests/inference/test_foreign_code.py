"""Whatever a user's network raises is an error of the network.

It ends no process, and passes for no verdict.
"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from harness.base.errors import InputError, Interruption, foreign_code, printable
from harness.data import LabelledImages
from harness.inference import Classifier, ModelError, open_model
from harness.inference.attention import attend
from harness.networks import NetworkOptions
from harness.networks.declared import expect_fit
from harness.networks.options import Builder

IMAGES = LabelledImages(
    torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 2, ("a", "b"), "toy", "test"
)
RAISED = [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), pytest.skip.Exception("no")]
IDS = [type(each).__name__ for each in RAISED]


class Raises(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.error = error

    def forward(self, pixels):
        if pixels.sum() >= 0:
            raise self.error
        return self.conv(pixels).mean(dim=(2, 3))


@pytest.mark.parametrize("error", RAISED, ids=IDS)
def test_what_a_network_raises_in_a_pass_is_a_model_error(error):
    with pytest.raises(
        ModelError, match=rf"the model failed on images .*it raised {type(error).__name__}"
    ):
        Classifier(Raises(error)).predict(IMAGES)


@pytest.mark.parametrize(
    "error", [each for each in RAISED if not isinstance(each, KeyboardInterrupt)]
)
def test_what_a_network_raises_while_it_is_looked_at_is_no_exit(error):
    expect_fit(Raises(error), IMAGES, outputs=None)  # Left to fail where it is used.
    with pytest.raises((RuntimeError, InputError), match=f"it raised {type(error).__name__}"):
        attend(Classifier(Raises(error)), IMAGES)


@pytest.mark.parametrize(
    "code",
    ["import sys; sys.exit(0)", "import sys\ndef net():\n    sys.exit(0)"],
    ids=["import", "constructor"],
)
def test_a_network_that_exits_while_it_is_built_is_refused(tmp_path, monkeypatch, code):
    (tmp_path / "leaving_network.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "leaving_network", raising=False)
    with pytest.raises(InputError, match=r"model leaving_network:net: .*it raised SystemExit: 0"):
        Builder("leaving_network:net", {})()


def test_an_error_message_is_one_line_that_can_be_printed():
    hostile = "runs/\n::error file=a::x\x1b[31m\udcff\u202e.npz"
    said = str(InputError(f"{hostile}: not a file", below=["a", "b\x1b"]))
    first, *output = said.split("\n")
    assert first == r"runs/\n::error file=a::x\x1b[31m\udcff\u202e.npz: not a file"
    assert output == ["a", r"b\x1b"]
    assert printable("Größe ≥ 3 → ok") == "Größe ≥ 3 → ok"
    assert np.array([each.isprintable() for each in said.split("\n")]).all()
    for error in (KeyboardInterrupt, Interruption):
        with pytest.raises(error), foreign_code():
            raise error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://bucket/a.tar: no such file", "s3://bucket/a.tar: no such file"),
        (
            "https://host/a.tar?sig=31%2Bf&se=2: cannot be read",
            "https://host/a.tar?…: cannot be read",
        ),
        (
            "'--stress-set=data=hf:https://host/a?sig=f=' -x",
            "'--stress-set=data=hf:https://host/a?…' -x",
        ),
        (
            "ValueError(URL(https://me:pw@host:80/a?b)), is it there?",
            "ValueError(URL(https://me:…@host:80/a?…)), is it there?",
        ),
        ("abfs://container@account/{0..9}.tar", "abfs://container@account/{0..9}.tar"),
        (
            "hf://datasets/a/b@main/x.parquet and http://host:80/c@d",
            "hf://datasets/a/b@main/x.parquet and http://host:80/c@d",
        ),
        ("is it a file? a:b@c", "is it a file? a:b@c"),
    ],
)
def test_what_opens_a_url_is_printed_nowhere(text, said):
    assert printable(text) == said


ON_META = (
    "import torch\n\ndef net():\n    with torch.device('meta'):\n        return "
    "torch.nn.Conv2d(1, 2, 8)\n"
)


def test_a_network_that_cannot_be_laid_out_is_refused_by_role_and_file(tmp_path, monkeypatch):
    (tmp_path / "meta_network.py").write_text(ON_META)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "meta_network", raising=False)
    torch.save(nn.Conv2d(1, 2, 8).state_dict(), tmp_path / "meta.pt")
    network = NetworkOptions(model="meta_network:net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            InputError, match=r"candidate .*meta\.pt: the model failed on the first"
        ):
            open_model(
                tmp_path / "meta.pt", IMAGES, role="candidate", network=network, device="cpu"
            )
