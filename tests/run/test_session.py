"""A session checks its inputs before anything is measured, and builds the user's own networks."""

import sys

import pytest
import torch
from torch import nn

from harness.base.errors import InputError
from harness.base.groups import values_of
from harness.checks import Check, ChecksError
from harness.checks.file import DataFingerprint
from harness.data import load_fashion_mnist
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import CheckpointRefused, Record, save_checkpoint
from harness.networks.options import Builder
from harness.run.opening import open_session
from harness.run.request import RunRequest
from harness.run.settings import SETTINGS

CHECKS = """
schema = 2
protocol = 1
[data]
name = "{name}"
split = "{split}"
sha256 = "{sha256}"
n = {n}
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
"""


def fingerprint() -> dict[str, object]:
    images = load_fashion_mnist("test")
    return {"name": images.name, "split": images.split, "sha256": images.sha256, "n": len(images)}


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> RunRequest:
    """Options of a run that works: an untrained network in every role, 300 images."""
    folder = tmp_path_factory.mktemp("session")
    torch.manual_seed(0)
    network = FashionCNN(conv_channels=[2, 2], fc_sizes=[4])
    record = Record("fashion-cnn", {"conv_channels": [2, 2], "fc_sizes": [4]}, load_fashion_mnist("test").classes)
    save_checkpoint(folder / "model.safetensors", network, record)
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "checks.toml").write_text(CHECKS.format(**fingerprint()))
    path = folder / "model.safetensors"
    return RunRequest(
        roles={"candidate": path, "baseline": path, "incumbent": "none"},
        checks=folder / "checks.toml",
        samples=300,
        device="cpu",
    )


# Opening.


def test_what_a_panel_is_asked_about_is_the_same_in_a_thorough_run(options):
    default, thorough = (open_session(options.but(samples=2_500, profile=name)) for name in ("default", "thorough"))
    assert len(thorough.search_images) == 2_500
    assert default.search_images.sha256 == default.panel_images.sha256 == thorough.panel_images.sha256


def test_a_session_holds_images_checks_and_the_models_in_their_roles(options):
    opened = open_session(options, workers=1)
    assert (len(opened.images), opened.share) == (300, 0.03)
    assert torch.equal(opened.images.labels.bincount(), torch.full((10,), 30))
    assert len(opened.labels) == 10_000, "by which it is told what is usual for a class, whatever the sample"
    assert [check.id for check in opened.checks.checks] == ["clean"]
    assert list(opened.roles) == ["candidate", "baseline"]
    candidate = opened.roles["candidate"]
    assert candidate.as_json() == {
        "path": str(options.checkpoints["candidate"]),
        "sha256": candidate.sha256,
        "architecture": "fashion-cnn",
    }
    assert candidate.predict(opened.images).logits.shape == (300, 10)


def test_models_of_one_file_share_their_predictions(options):
    opened = open_session(options, workers=1)
    assert opened.roles["candidate"].predict(opened.images) is opened.roles["baseline"].predict(opened.images)


def test_a_gate_of_a_sample_knows_its_share(options):
    scaled = open_session(options, workers=1).scaled(Check("clean", "clean", "accuracy"))
    assert (scaled.share, scaled.id) == (0.03, "clean")


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"samples": 7}, 7),
        ({"samples": 7, "profile": "quick"}, 7),
        ({"samples": None, "profile": "quick"}, 2_000),
        ({"samples": None}, None),
        ({"samples": None, "profile": "thorough"}, None),
    ],
    ids=["samples", "samples-over-quick", "quick", "default", "thorough"],
)
def test_the_sample_size_follows_the_options(options, changes, size):
    made_for_all = DataFingerprint("fashion-mnist", "test", "0" * 64, 10_000)
    assert options.but(**changes).sample_size(made_for_all) == size


def test_checks_made_for_a_sample_set_its_size_where_no_other_is_asked_for(options):
    made_for = DataFingerprint("fashion-mnist", "test", "0" * 64, 10_000, sample=1_500)
    quick = options.but(samples=None, profile="quick")
    assert (quick.sample_size(made_for), quick.but(samples=7).sample_size(made_for)) == (1_500, 7)


@pytest.mark.parametrize("samples", [0, -3, 10_001])
def test_a_sample_that_does_not_fit_is_refused(options, samples):
    with pytest.raises(InputError, match=rf"sample of {samples} images .* between 1 and 10000"):
        open_session(options.but(samples=samples), workers=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("sha256", "0" * 64), ("n", 9_999), ("split", "train"), ("name", "mnist")],
    ids=["sha256", "n", "split", "name"],
)
def test_checks_made_for_other_data_are_refused_with_both_values(options, tmp_path, key, value):
    path = tmp_path / "checks.toml"
    path.write_text(CHECKS.format(**{**fingerprint(), key: value}))
    with pytest.raises(InputError) as refusal:
        open_session(options.but(checks=path), workers=1)
    message = str(refusal.value)
    assert f"{path}: made for other data: its [data] {key} is {value!r}, " in message
    assert f"these data have {fingerprint()[key]!r}" in message
    assert "--checks" in message
    assert "--stress-set data=" in message


@pytest.mark.parametrize("role", ["candidate", "baseline", "incumbent"])
def test_a_missing_checkpoint_is_refused_by_its_path(options, tmp_path, role):
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(CheckpointRefused, match=r"REFUSED\[NOT_REGULAR\] .*missing\.safetensors: cannot be opened"):
        open_session(options.but(roles={**options.roles, role: missing}), workers=1)


def test_missing_checks_are_refused_before_a_model_is_loaded(options, tmp_path):
    changed = options.but(checks=tmp_path / "none.toml", roles={"candidate": tmp_path / "none.safetensors"})
    with pytest.raises(ChecksError, match=r"none\.toml: cannot be read"):
        open_session(changed, workers=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "imagenet"}, "data imagenet: unknown data"),
        ({"device": "abacus"}, "device 'abacus' cannot be used .*expected auto, cpu, cuda or mps"),
        ({"model": "nowhere"}, "model nowhere: expected package.module:callable"),
    ],
    ids=["data", "device", "model"],
)
def test_a_bad_option_is_refused_by_name(options, changes, message):
    with pytest.raises(InputError, match=message):
        open_session(options.but(**changes), workers=1)


def test_a_setting_that_no_model_of_the_run_needs_is_ignored(options, tmp_path):
    (tmp_path / "own.py").write_text("def labels(pixels):\n    return pixels[:, 0, 0, 0] % 10\n")
    unneeded = {"model": "nowhere:network", "model_outputs": "logits", "normalization": "imagenet", "layer": "conv3"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        roles = {"candidate": "python:own:labels"}
        session = open_session(options.but(roles=roles, data=options.data, **unneeded), workers=1)
    assert session.roles["candidate"].provides.scores == "labels"
    assert session.roles["candidate"].layer is None


class Unusable(nn.Module):
    """Accepts the weights of a linear layer, and fails in the chosen way."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self.failure, self.fc = failure, nn.Linear(1, 2)

    def forward(self, pixels):
        if self.failure == "raises":
            raise RuntimeError("out of order")
        logits = pixels.new_zeros(len(pixels), 10)
        return {"nan": logits * float("nan"), "shape": logits[:, :3], "tuple": (logits, logits)}[self.failure]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("raises", "the model failed on .*: out of order"),
        ("nan", "the model returned NaN or infinity"),
        ("shape", r"the model has 3 classes, the data have 10 classes"),
        ("tuple", "the model returned a tuple of .*; expected logits"),
    ],
    ids=["raises", "nan", "shape", "tuple"],
)
def test_a_model_that_cannot_predict_is_refused_at_once_with_its_role(options, tmp_path, failure, message):
    path = tmp_path / "unusable.pth"
    torch.save(Unusable(failure).state_dict(), path)
    changed = options.but(
        roles={**options.roles, "candidate": path},
        model=f"{__name__}:Unusable",
        model_args={"failure": failure},
    )
    with pytest.raises(InputError, match=rf"candidate .*unusable\.pth: {message}"):
        open_session(changed, workers=1)


def test_the_users_builder_is_not_for_shipped_models(options):
    """The builder would reject the shipped file's tensors."""
    weights = options.checkpoints["candidate"].with_name("weights.pth")
    changed = options.but(
        roles={**options.roles, "candidate": weights},
        model="harness.networks.architectures:FashionCNN",
        model_args={"conv_channels": [2, 2], "fc_sizes": [4]},
    )
    roles = open_session(changed, workers=1).roles
    assert {role: model.architecture for role, model in roles.items()} == {
        "candidate": "user",
        "baseline": "fashion-cnn",
    }


# The user's own network.


class Recorder(nn.Module):
    """A network that keeps the arguments it was built with."""

    def __init__(self, **arguments) -> None:
        super().__init__()
        self.arguments = arguments


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {}),
        (("width=32",), {"width": 32}),
        (("rate=0.5", "deep=True", "name=None"), {"rate": 0.5, "deep": True, "name": None}),
        (("sizes=[1, 2]", "pair=(3, 4)", "table={'a': 1}"), {"sizes": [1, 2], "pair": (3, 4), "table": {"a": 1}}),
        (("kind=large",), {"kind": "large"}),
        (("kind='large'",), {"kind": "large"}),
        (("kind=",), {"kind": ""}),
        (("path=a=b",), {"path": "a=b"}),
        (("kind=__import__('os').getcwd()",), {"kind": "__import__('os').getcwd()"}),
    ],
    ids=["none", "int", "scalars", "containers", "bare-string", "quoted", "empty", "equals-sign", "code"],
)
def test_arguments_are_literals_or_else_strings(given, expected):
    pairs = [f"model_args.{each}" for each in given]
    network = Builder(f"{__name__}:Recorder", values_of(pairs, SETTINGS).get("model_args", {}))()
    assert isinstance(network, nn.Module)
    assert network.arguments == expected


def test_every_call_builds_a_network_of_its_own():
    builder = Builder("harness.networks.architectures:FashionCNN", {"conv_channels": [2], "fc_sizes": [4]})
    assert builder() is not builder()
    assert builder().conv1.weight.shape == (2, 1, 3, 3)


def test_the_working_directory_is_importable(tmp_path, monkeypatch):
    (tmp_path / "my_network_here.py").write_text("from torch import nn\ndef make(n): return nn.Linear(n, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert Builder("my_network_here:make", {"n": 3})().weight.shape == (2, 3)


@pytest.mark.parametrize("spec", ["torch.nn", "torch.nn:", ":Linear", "", ":"])
def test_a_malformed_spec_is_refused(spec):
    with pytest.raises(InputError, match=rf"model {spec}: expected package\.module:callable"):
        Builder(spec, {})


@pytest.mark.parametrize("argument", ["width", "=3", "1x=3", "a-b=3", ""])
def test_a_malformed_argument_is_refused(argument):
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        values_of([f"model_args.{argument}"], SETTINGS)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [("no_such_module_here:f", "No module named 'no_such_module_here'"), ("torch.nn:NoSuchLayer", "NoSuchLayer")],
    ids=["module", "attribute"],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(spec, reason):
    with pytest.raises(InputError, match=rf"model {spec}: cannot be imported \(.*{reason}"):
        Builder(spec, {})


@pytest.mark.parametrize(
    "source",
    ["def make(:", "1 / 0", "raise RuntimeError('needs a GPU')", "raise ImportError('half installed')"],
    ids=["syntax", "division", "runtime", "import"],
)
def test_a_module_that_fails_while_imported_is_refused(tmp_path, monkeypatch, source):
    (tmp_path / "broken_network.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_network", raising=False)
    with pytest.raises(InputError, match="model broken_network:make: cannot be imported"):
        Builder("broken_network:make", {})


def fails() -> nn.Module:
    raise OSError("no pretrained weights")


def returns_none() -> None:
    return None


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (f"{__name__}:fails", {}, "building the network failed .*no pretrained weights"),
        (f"{__name__}:CHECKS", {}, "building the network failed .*not callable"),
        ("torch.nn:Linear", {"width": 3}, "building the network failed .*width"),
        (f"{__name__}:returns_none", {}, "NoneType"),
    ],
    ids=["raises", "not-callable", "wrong-argument", "returns-no-network"],
)
def test_a_callable_that_gives_no_network_is_refused(spec, arguments, message):
    with pytest.raises(InputError, match=rf"model {spec}: .*{message}"):
        Builder(spec, arguments)()
