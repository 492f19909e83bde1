"""Files of trainings: the network's weights are found among what else they hold, and said to be.

Nothing is guessed.
"""

import argparse
import collections
import datetime
import functools
import pathlib
import re
import sys
import types
import uuid

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from weights import equal_bits, small, torch_file, with_record

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.inference import open_model
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import CheckpointRefused, load_checkpoint
from harness.networks.declared import load_model
from harness.networks.options import NetworkOptions


class Net(nn.Module):
    """Two layers, one with a batch norm."""

    def __init__(self, num_classes=3, in_channels=1, depth=1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(depth)))
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(self.bn(self.conv(x))).mean((2, 3)))


def net(seed=0, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Net(**arguments)
        made.bn.running_mean.normal_()
    return made


def prefixed(prefix, model):
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


@pytest.fixture
def load(tmp_path):
    """Save this with torch, and load it into the network, or into that of a spec."""

    def loaded(content, *, arguments=None, key=None, prefix=None, spec=f"{__name__}:Net"):
        path = tmp_path / "last.ckpt"
        path.write_bytes(content if isinstance(content, bytes) else torch_file(content))
        options = NetworkOptions(
            model=spec, model_args=arguments or {}, checkpoint_key=key, strip_prefix=prefix
        )
        checkpoint = load_model(path, options)
        return checkpoint.model.network, checkpoint.note

    return loaded


def refused(load, content, **how):
    with pytest.raises(CheckpointRefused) as caught:
        load(content, **how)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.fixture
def lightning(monkeypatch):
    """Lightning's dict of hyper-parameters, under its name."""
    module = types.ModuleType("lightning.fabric.utilities.data")

    class AttributeDict(dict):
        __module__, __qualname__ = module.__name__, "AttributeDict"

    module.AttributeDict = AttributeDict
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return AttributeDict


def of_lightning(hyper_parameters, **more):
    """File of `Trainer.save_checkpoint` for a LightningModule that holds its network as `model`."""
    other = net(1)
    optimizer = torch.optim.AdamW(other.parameters())
    other(torch.rand(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "epoch": 2,
        "global_step": 20,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": collections.OrderedDict(prefixed("model.", net()), **more),
        "loops": {
            "fit_loop": {
                "state_dict": {},
                "epoch_progress": {"total": {"ready": 2}, "current": {"ready": 2}},
            }
        },
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss'}": {
                "best_model_score": torch.tensor(0.5),
                "best_k": {},
            }
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 2}],
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
    }


UNDER, WITHOUT = (
    "its weights are those under {!r}".format,
    "the prefix {!r} is removed from the names".format,
)
STATE = net().state_dict()
OPTIMIZER = torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9).state_dict()
FOUND = {
    "plain": (lambda: STATE, {}, ""),
    # Candidate and incumbent share the options, and one of them may be plain.
    "plain-with-options": (lambda: STATE, {"key": "state_dict", "prefix": "module."}, ""),
    "callable-in-a-class": (lambda: STATE, {"spec": f"{__name__}:Makers.small"}, ""),
    "lightning": (
        lambda: of_lightning(
            {}, **{"criterion.weight": torch.ones(3), "metric.total": torch.zeros(1)}
        ),
        {},
        f"{UNDER('state_dict')}; {WITHOUT('model.')}; 2 others are ignored (criterion.weight, "
        "metric.total)",
    ),
    "loop": (
        lambda: {"epoch": 3, "weights": STATE, "optimizer": OPTIMIZER, "best": 0.9},
        {},
        UNDER("weights"),
    ),
    "two-keys-of-one-dict": (lambda: {"model": STATE, "best": STATE}, {}, UNDER("model")),
    "one-of-two-keys": (lambda: {"model": STATE, "best": STATE}, {"key": "best"}, UNDER("model")),
    "compiled": (
        lambda: nn.DataParallel(torch.compile(net(), backend="eager")).state_dict(),
        {},
        WITHOUT("module._orig_mod."),
    ),
    "wrapped": (lambda: prefixed("model.backbone.", net()), {}, WITHOUT("model.backbone.")),
    "unknown-prefix": (
        lambda: prefixed("detector.trunk.", net()),
        {"prefix": "detector.trunk"},
        WITHOUT("detector.trunk."),
    ),
    "safetensors": (
        lambda: save(prefixed("model.", net()), metadata={"format": "pt"}),
        {},
        WITHOUT("model."),
    ),
    "no-counts": (
        lambda: {name: value for name, value in STATE.items() if "num_batches" not in name},
        {},
        "num_batches_tracked is missing, but only training needs it",
    ),
}


@pytest.mark.parametrize(("content", "how", "said"), FOUND.values(), ids=FOUND)
def test_the_weights_are_found_and_it_is_said_where(load, content, how, said):
    model, note = load(content(), **how)
    assert equal_bits(model, net())
    assert note == said


def test_averages_and_hyper_parameters_are_no_weights(load, lightning):
    given = lightning(
        lr=0.1,
        root=pathlib.Path("/data"),
        loss=nn.functional.cross_entropy,
        sizes=(1, 2),
        name=None,
    )
    assert equal_bits(load(of_lightning(given))[0], net())
    averaged = torch.optim.swa_utils.AveragedModel(net(), use_buffers=True)
    averaged.update_parameters(net(1))
    averaged.update_parameters(net(2))
    model, note = load(averaged.state_dict())
    assert equal_bits(model, averaged.module)
    assert (
        note == "the prefix 'module.' is removed from the names; 1 others are ignored (n_averaged)"
    )


def of_timm(model, average):
    """File of timm's `CheckpointSaver`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "epoch": 1,
        "arch": "resnet10t",
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": argparse.Namespace(model="resnet10t", lr=0.1, aa=None, mean=(0.5,)),
        "state_dict_ema": average.state_dict(),
        "metric": 50.2,
    }


def test_weights_are_told_apart_by_their_key_or_prefix_alone(load):
    error = refused(load, of_timm(net(), net(1)))
    assert "2 of its state dicts fit the network: state_dict, state_dict_ema" in str(error)
    assert "Select one with checkpoint_key state_dict or state_dict_ema." in str(error)
    for seed, key in enumerate(("state_dict", "state_dict_ema")):
        model, note = load(of_timm(net(), net(1)), key=key)
        assert equal_bits(model, net(seed))
        assert note == f"its weights are those under {key!r}"
    nested = {"ema": {"model": net(1).state_dict()}, "model": net().state_dict()}
    assert equal_bits(load(nested, key="ema.model")[0], net(1))
    content = {**prefixed("student.", net()), **prefixed("teacher.", net(1))}
    error = refused(load, content)
    assert "student (names" not in str(error)
    assert "Select one with strip_prefix student or teacher." in str(error)
    for prefix in ("teacher", "teacher."):
        model, note = load(content, prefix=prefix)
        assert equal_bits(model, net(1))
        assert note.startswith(
            "the prefix 'teacher.' is removed from the names; 11 others are ignored"
        )
    error = refused(load, {**net().state_dict(), **prefixed("ema.", net(1))})
    assert "strip_prefix '' or ema." in str(error)
    error = refused(load, prefixed("detector.trunk.", net()))
    assert "fits the network, except that its names begin with 'detector.trunk.'" in str(error)
    assert "If that is correct, set strip_prefix detector.trunk." in str(error)


BESIDE = {
    "namespace": argparse.Namespace(lr=0.1, nested={"a": [1, (2, None)]}),
    "simple-namespace": types.SimpleNamespace(a=1),
    "path": pathlib.Path("/data/x"),
    "array": np.arange(6.0).reshape(2, 3),
    "text-array": np.array(["a", "b"]),
    "scalar": np.float64(0.5),
    "state-of-numpy": np.random.RandomState(0).get_state(),
    "state-of-torch": torch.get_rng_state(),
    "dtype": torch.float32,
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "uuid": uuid.UUID(int=7),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], maxlen=3),
    "sets": [{1, 2}, frozenset("ab")],
    "bytes": b"abc",
    "complex": 1j,
    "slice": slice(1, 2),
    "large": 2**300,
    "keys": {1: "a", 0.5: "b", None: "c", (1, 2): "d"},
    "function": nn.functional.relu,
    "class": nn.ReLU,
    "partial": functools.partial(nn.Conv2d, 3, kernel_size=1),
    "deep": functools.reduce(lambda inner, _: {"a": inner}, range(50), 1),
}


@pytest.mark.parametrize("protocol", [2, 4, 5], ids="pickle-{}".format)
def test_what_stands_beside_the_weights_is_carried_unread(load, protocol):
    content = torch_file(
        {"hyper_parameters": BESIDE, "state_dict": net().state_dict()}, pickle_protocol=protocol
    )
    assert equal_bits(load(content)[0], net())


def test_none_of_it_is_taken_for_a_weight_and_own_objects_are_refused(load):
    for value in ({1}, BESIDE["array"], BESIDE["function"], BESIDE["namespace"]):
        for name in ("fc.bias", "x"):
            error = refused(load, {"epoch": 1, "state_dict": {**net().state_dict(), name: value}})
            assert error.code == "PICKLE_GLOBAL"
            assert "its pickle wants " in str(error)
    config = {"state_dict": net().state_dict(), "hyper_parameters": Config()}
    for content, name in (
        (config, "test_training_files.Config"),
        (torch.optim.swa_utils.AveragedModel(net()), "AveragedModel"),
    ):
        error = refused(load, content)
        assert error.code == "PICKLE_GLOBAL"
        assert name in str(error)
        assert "torch.save(model.state_dict(), path)" in str(error)
    with pytest.raises(InputError, match="model own: expected"):
        load(net().state_dict(), spec="own")


class Config:
    """A class of the user's own."""


def state(**arguments):
    return net(**arguments).state_dict()


MISFITS = {
    "classes": (
        lambda: state(num_classes=7),
        {},
        r"2 of 11 do not fit .*\(7, 4\), .*7 classes, .*model_args\.num_cl",
    ),
    "channels": (
        lambda: state(in_channels=3),
        {},
        r"has 3 channels, .*such as with model_args\.in_channels=3\.",
    ),
    "channels-and-classes": (
        lambda: state(in_channels=3, num_classes=5),
        {},
        r"in_channels=3\. .*num_classes=5\.",
    ),
    "deeper": (
        lambda: {"net": state(depth=3)},
        {},
        r"4 of 15 .* unknown to it \(blocks\.1\.w.* and 1 more.*number",
    ),
    "shallower": (
        state,
        {"arguments": {"depth": 2}},
        r"2 of 13 are missing \(blocks\.1\.weight .*number or width",
    ),
    "another": (
        lambda: nn.Sequential(nn.Linear(2, 2)).state_dict(),
        {},
        "10 of 11 are missing.*2 of 2 of .*callable",
    ),
    "head": (
        lambda: {name.replace("fc.", "head.1."): value for name, value in state().items()},
        {},
        r"Its layers differ in fc, head\.1: set model to the callable, and model_args",
    ),
    "network-within": (
        state,
        {"spec": f"{__name__}:Wrapped"},
        "has these names under 'inner': name a callable",
    ),
    "key": (
        lambda: {"state_dict": state(), "ema": state()},
        {"key": "weights"},
        "under 'weights'.* state_dict, ema",
    ),
    "prefix": (
        lambda: prefixed("model.", net()),
        {"prefix": "module."},
        r"with 'module\.'; they are model\.conv",
    ),
}


@pytest.mark.parametrize(("content", "how", "said"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named_with_its_likely_cause(load, content, how, said):
    error = str(refused(load, content(), **how))
    assert re.search(said, error), error
    assert "not the shipped architecture" not in error


class Wrapped(nn.Module):
    """A network within another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()


def test_what_cannot_be_named_by_options_says_what_to_do(tmp_path):
    torch.save(net().state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointRefused, match="not the shipped architecture name the callable"):
        load_checkpoint(tmp_path / "x.pth")
    (tmp_path / "x").write_bytes(with_record(small(), arguments={"classes": 2}))
    with pytest.raises(
        CheckpointRefused, match="The record in it is of another network than its tensors"
    ) as error:
        load_checkpoint(tmp_path / "x", builder=small)
    assert "as model" not in str(error.value)
    notebook = FashionCNN()
    torch.save({"epoch": 1, "model_state_dict": prefixed("module.", notebook)}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert equal_bits(loaded.model, notebook)
    assert loaded.note


class Makers:
    """Holds a callable."""

    @staticmethod
    def small():
        return Net()


def test_reports_say_what_was_taken(tmp_path):
    torch.save({"epoch": 1, "state_dict": prefixed("model.", net())}, tmp_path / "last.ckpt")
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    images = LabelledImages(pixels, torch.arange(4) % 3, ("a", "b", "c"), "made", "test")
    options = NetworkOptions(model=f"{__name__}:Net", model_outputs="logits")
    role = open_model(tmp_path / "last.ckpt", images, role="candidate", network=options)
    said = "its weights are those under 'state_dict'; the prefix 'model.' is removed from the names"
    assert role.as_json()["loaded"] == said
