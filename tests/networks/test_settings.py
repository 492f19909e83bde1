"""A network's changes of the whole process are undone.

Other models' bits, and the run's end, are as without it.
"""

import locale
import os
import signal
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from zoo import images_of, network

from harness.inference import Classifier
from harness.inference.layers import default_layer
from harness.networks.declared import expect_fit
from harness.networks.options import Builder
from harness.networks.process import ProcessSettings, settings_kept
from harness.perturb import Pose

EFFECTS = {
    "dtype": "torch.set_default_dtype(torch.float64)",
    "device": "torch.set_default_device('meta')",
    "threads": "torch.set_num_threads(3)",
    "grad": "torch.set_grad_enabled(False)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "precision": "torch.set_float32_matmul_precision('medium')",
    "mkldnn": "torch.backends.mkldnn.enabled = False",
    "benchmark": "torch.backends.cudnn.benchmark = True",
    "seeds": "torch.manual_seed(0), np.random.seed(0), random.seed(0)",
    "folder": "os.chdir('/')",
    "streams": "sys.stdout = sys.stderr = None",
    "environment": "os.environ.update(ONEDNN_MAX_CPU_ISA='SSE41', GITHUB_ACTIONS='true'); "
    "os.environ.pop('HOME', 0)",
    "recursion": "sys.setrecursionlimit(5000)",
    "prints": "print('x' * 1_000_000)",
}
IN_THE_MAIN_THREAD = {
    "alarm": "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "interrupt": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "warnings": "warnings.simplefilter('error')",
    "locale": "locale.setlocale(locale.LC_ALL, 'C')",
}
NAMES = {
    "torch": torch,
    "np": np,
    "os": os,
    "sys": sys,
    "signal": signal,
    "warnings": warnings,
    "locale": locale,
} | {"random": __import__("random")}


class Changing(torch.nn.Module):
    """A good network that changes something in each pass; its branch keeps it from being traced."""

    def __init__(self, effect: str) -> None:
        super().__init__()
        self.network, self.effect = network(), effect

    def forward(self, pixels):
        if pixels.sum() >= 0:
            exec(self.effect, dict(NAMES))
        return self.network(pixels)


OF_ITS_OWN = {"threads", "precision", "mkldnn"}
"""Settings that a network may want for its own pass, and that decide its own last bits."""


def state():
    return ProcessSettings()._values, [
        signal.getsignal(each) for each in (signal.SIGALRM, signal.SIGINT)
    ]


def answers(model, *, workers=2):
    return Classifier(model, workers=workers).predict(images_of(64), Pose(7.0, 1.0, 0.5)).logits


@pytest.fixture(scope="module")
def expected():
    return answers(network())


@pytest.fixture(autouse=True)
def undone():
    with settings_kept():
        yield


@pytest.mark.parametrize("name", EFFECTS)
def test_what_a_pass_changes_changes_no_bit_and_does_not_last(expected, name):
    before = state()
    assert (answers(Changing(EFFECTS[name])) == expected).all() or name in OF_ITS_OWN
    assert state() == before
    assert (answers(network()) == expected).all()


@pytest.mark.parametrize("name", EFFECTS | IN_THE_MAIN_THREAD)
def test_what_tracing_and_looking_into_a_network_change_does_not_last(name):
    model = Changing((EFFECTS | IN_THE_MAIN_THREAD)[name])
    before, filters = state(), list(warnings.filters)
    classifier = Classifier(model, workers=1)
    expect_fit(model, images_of(8), outputs=None)
    default_layer(classifier.plain, images_of(8).pixels.float() / 255)
    assert state() == before
    assert warnings.filters == filters or name != "warnings"


@pytest.mark.parametrize(
    "effect", (EFFECTS | IN_THE_MAIN_THREAD).values(), ids=EFFECTS | IN_THE_MAIN_THREAD
)
def test_what_importing_and_building_change_does_not_last(tmp_path, monkeypatch, expected, effect):
    imports = (
        "import locale, os, random, signal, sys, warnings\nimport numpy as np, torch\nfrom zoo "
        "import network\n"
    )
    code = f"{imports}{effect}\ndef net():\n" + textwrap.indent(
        f"model = network()\n{effect}\nreturn model\n", "    "
    )
    (tmp_path / "changing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "changing", raising=False)
    before, filters = state(), list(warnings.filters)
    model = Builder("changing:net", {})()
    assert state() == before
    assert warnings.filters == filters or "warnings" not in effect
    assert (answers(model) == expected).all()


def test_our_own_pixels_do_not_depend_on_the_default_type():
    """Since batches run side by side, one may be made while another's pass has changed it."""
    pixels = images_of(8).pixels.float() / 255
    plain = Pose(7.0, 1.0, 0.5)(pixels)
    torch.set_default_dtype(torch.float64)
    assert torch.equal(Pose(7.0, 1.0, 0.5)(pixels), plain)


COPYING = """
import os
from zoo import network

class Net(type(network())):
    def forward(self, pixels):
        {fork}
        return super().forward(pixels)

def net():
    {build}
    model = network()
    model.__class__ = Net
    return model
"""


@pytest.mark.parametrize("where", ["fork", "build"])
def test_a_copy_of_the_process_does_not_come_back_from_a_network(tmp_path, monkeypatch, where):
    """Two processes would go on with one piece of work, and both report on it."""
    code = {"fork": "", "build": ""} | {
        where: f"os.fork(); os.close(os.open({str(tmp_path / 'forks')!r}, os.O_CREAT))"
    }
    (tmp_path / "copying.py").write_text(COPYING.format(**code))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "copying", raising=False)
    process = os.getpid()
    model = Builder("copying:net", {})()
    answers(model)
    if os.getpid() != process:
        (tmp_path / "came-back").write_text("")
        os._exit(0)
    while True:  # Until all copies have ended.
        try:
            assert (
                os.waitstatus_to_exitcode(os.waitpid(0, 0)[1]) == 4
            )  # Of this group: predictors are in others.
        except ChildProcessError:
            break
    assert (tmp_path / "forks").exists()
    assert not (tmp_path / "came-back").exists()
