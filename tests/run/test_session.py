"""A session checks its inputs before anything is measured, and builds the user's own networks."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from panels import view_of
from torch import nn
from zoo import ARGUMENTS, CLASSES, CLEAN, Zoo, checks_text, images_of, network

from harness.base.errors import InputError
from harness.base.groups import values_of
from harness.checks import Check, ChecksError
from harness.checks.file import DataFingerprint
from harness.data import load_images
from harness.measures import METRICS
from harness.measures.metric import count_of
from harness.measures.panel.predictions import PanelPredictions
from harness.networks.options import Builder
from harness.perturb import IDENTITY
from harness.run.opening import open_session
from harness.run.request import RunRequest
from harness.run.session import OtherImages, RunScope
from harness.run.settings import SETTINGS

ERRORS = (
    '[[check]]\nid = "errors"\nfamily = "confidence"\nmetric = "confident_errors"\n'
    "confidence = 0.5\n"
)
NAMED = '[data.samples]\nconfidence = { n = 100, by = "panel" }\n'


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> RunRequest:
    """Options of a run that works: one network in two roles, 40 of 400 images."""
    zoo = Zoo(tmp_path_factory.mktemp("session"))
    zoo.bind(CLEAN)
    torch.save(network().state_dict(), zoo.root / "models/weights.pth")
    path = zoo.root / "models/augmented.safetensors"
    return RunRequest(
        roles={"candidate": path, "baseline": path, "incumbent": "none"},
        data=zoo.data,
        checks=zoo.checks,
        samples=40,
        device="cpu",
        no_cache=True,
    )


@pytest.fixture
def with_votes(options, tmp_path):
    """Open sessions on the zoo with predictions of a panel.

    Its three models all err on 40 images.
    """

    def opened(text, **run):
        votes = np.zeros((3, 400), dtype=bool)
        votes[:, :40] = True
        images, path = options.all_images(), tmp_path / "checks.toml"
        path.write_text(checks_text(images, text))
        view = replace(
            view_of(votes.sum(axis=0), np.ones((400, 1)), np.zeros(400, dtype=int)), each=votes
        )
        known = PanelPredictions(
            images.sha256, images.classes, ("a", "b", "c"), {repr(IDENTITY): view}
        )
        return replace(
            open_session(options.but(checks=path, **{"samples": None} | run)),
            panel_predictions=known,
        )

    return opened


# Opening.


def test_what_a_panel_is_asked_about_is_the_same_in_a_thorough_run(options, tmp_path):
    many = images_of(2_500)
    arrays = {
        "images": many.pixels[:, 0].numpy(),
        "labels": many.labels.numpy(),
        "classes": np.array(CLASSES),
    }
    np.savez(tmp_path / "zoo.npz", **arrays)
    data = f"npz:{tmp_path / 'zoo.npz'}"
    (tmp_path / "checks.toml").write_text(checks_text(load_images(data), CLEAN))
    of_many = options.but(data=data, checks=tmp_path / "checks.toml", samples=2_400)
    default, thorough = (
        open_session(of_many.but(profile=name)) for name in ("default", "thorough")
    )
    assert len(thorough.search_images) == 2_400
    assert (
        default.search_images.sha256 == default.panel_images.sha256 == thorough.panel_images.sha256
    )


def test_a_check_has_a_sample_by_the_panel_where_its_metric_is_weighted(with_votes):
    """As with `--stress-budget`, where all checks of a family are weighted.

    A file may name a family with others.
    """
    area = ERRORS.replace("errors", "area", 1).replace("confident_errors", "risk_coverage_area")

    def asked(text="", **more):
        session = replace(with_votes(f"{text}{CLEAN}\n{ERRORS}\n{area}"), **more)
        found = [session.of_check(check).images for check in session.checks.checks]
        return [(len(each), each.strata is not None) for each in found]

    fitted = {"clean": 100, "confidence": 100}
    assert asked() == [(400, False)] * 3
    assert asked(scope=RunScope(fitted=fitted)) == [(100, True), (100, False), (100, False)]
    assert asked(NAMED) == [(400, False), (100, True), (400, False)]
    assert asked(NAMED, panel_predictions=None) == [(400, False), (100, False), (100, False)]


@pytest.mark.parametrize(
    ("sample", "run", "more", "limit"),
    [
        ("", {}, {"scope": RunScope(fitted={"confidence": 100})}, 32),
        (NAMED, {}, {}, 32),
        (NAMED, {"samples": 200}, {}, 16),
        (NAMED, {}, {"panel_predictions": None}, 8),
        (
            'sample = { n = 100, by = "panel" }\n',
            {"profile": "quick"},
            {"other_images": OtherImages()},
            8,
        ),
    ],
    ids=["to-fit", "whole", "samples", "uncalibrated", "on-the-sample-of-a-quick-profile"],
)
def test_a_threshold_by_hand_is_scaled_to_the_images_that_a_count_is_of(
    with_votes, sample, run, more, limit
):
    rows = f'{sample}{CLEAN}\n{ERRORS}hand = {{ threshold = 32, reason = "of 400 images" }}\n'
    session = replace(with_votes(rows, **run), **more)
    check = session.checks.checks[1]
    images = session.of_check(check).images
    measured = count_of(
        METRICS["confident_errors"], 0, len(images), images=images, each=np.zeros(len(images))
    )
    assert session.scaled(check).judge(measured).threshold == limit
    assert measured.n == 400 * limit / 32


def test_a_session_holds_images_checks_and_the_models_in_their_roles(options):
    opened = open_session(options, workers=1)
    assert (len(opened.images), opened.share) == (40, 0.1)
    assert torch.equal(opened.images.labels.bincount(), torch.full((4,), 10))
    assert len(opened.other_images.labels) == 400, (
        "the labels of all images say what is usual for a class"
    )
    assert [check.id for check in opened.checks.checks] == ["clean"]
    assert list(opened.roles) == ["candidate", "baseline"]
    candidate = opened.roles["candidate"]
    assert candidate.as_json() == {
        "path": str(options.checkpoints["candidate"]),
        "sha256": candidate.sha256,
        "architecture": "fashion-cnn",
    }
    assert candidate.predict(opened.images).logits.shape == (40, 4)
    assert candidate.predict(opened.images) is opened.roles["baseline"].predict(opened.images), (
        "of one file"
    )
    scaled = opened.scaled(Check("clean", "clean", "accuracy"))
    assert (scaled.conditions.share, scaled.id) == (0.1, "clean")


def test_a_candidate_of_the_panel_is_held_against_the_others(options, tmp_path):
    images, own = (
        load_images(options.data),
        open_session(options, workers=1).roles["candidate"].model_sha256,
    )
    view = view_of(np.zeros(400), np.eye(4)[images.labels], images.labels.numpy())
    panel = PanelPredictions(
        images.sha256, images.classes, (own, "b" * 64, "c" * 64), {repr(IDENTITY): view}
    )
    (tmp_path / "panel.npz").write_bytes(panel.as_bytes())
    asked = options.but(panel_predictions=tmp_path / "panel.npz")
    assert open_session(asked, workers=1).panel_predictions.excluded == own


@pytest.mark.parametrize(
    ("changes", "size", "of_sample"),
    [
        ({"samples": 7}, 7, 7),
        ({"samples": 7, "profile": "quick"}, 7, 7),
        ({"samples": None, "profile": "quick"}, 2_000, 1_500),
        ({"samples": None}, None, None),
        ({"samples": None, "profile": "thorough"}, None, None),
    ],
    ids=["samples", "samples-over-quick", "quick", "default", "thorough"],
)
def test_the_sample_size_follows_the_options_and_the_checks(options, changes, size, of_sample):
    asked = options.but(**changes)
    found = [
        asked.sample_size(DataFingerprint("zoo", "test", "0" * 64, 10_000, sample=n))
        for n in (None, 1_500)
    ]
    assert found == [size, of_sample]


@pytest.mark.parametrize(
    ("key", "own", "value"),
    [
        ("sha256", None, "0" * 64),
        ("n", "400", 9_999),
        ("split", '"test"', "train"),
        ("name", '"zoo"', "mnist"),
    ],
    ids=["sha256", "n", "split", "name"],
)
def test_checks_made_for_other_data_are_refused_with_both_values(
    options, tmp_path, key, own, value
):
    path, images = tmp_path / "checks.toml", load_images(options.data)
    theirs = images.sha256 if own is None else own.strip('"')
    quoted = own or f'"{theirs}"'
    path.write_text(checks_text(images, CLEAN).replace(f"{key} = {quoted}", f"{key} = {value!r}"))
    with pytest.raises(InputError) as refusal:
        open_session(options.but(checks=path), workers=1)
    message = str(refusal.value)
    assert f"{path}: made for other data: its [data] {key} is {value!r}, " in message
    for said in (
        f"these data have {int(theirs) if key == 'n' else theirs!r}",
        "--checks",
        "--stress-set data=",
    ):
        assert said in message


def test_missing_checks_are_refused_before_a_model_is_loaded(options, tmp_path):
    changed = options.but(
        checks=tmp_path / "none.toml", roles={"candidate": tmp_path / "none.safetensors"}
    )
    with pytest.raises(ChecksError, match=r"none\.toml: cannot be read"):
        open_session(changed, workers=1)


@pytest.mark.processes
def test_a_setting_that_no_model_of_the_run_needs_is_ignored(options, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("def labels(pixels):\n    return pixels[:, 0, 0, 0] % 4\n")
    unneeded = {
        "model": "nowhere:network",
        "model_outputs": "logits",
        "normalization": "imagenet",
        "layer": "conv3",
    }
    monkeypatch.chdir(tmp_path)
    session = open_session(
        options.but(roles={"candidate": "python:own:labels"}, **unneeded), workers=1
    )
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
        logits = pixels.new_zeros(len(pixels), 4)
        return {"nan": logits * float("nan"), "shape": logits[:, :3], "tuple": (logits, logits)}[
            self.failure
        ]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("raises", "the model failed on .*: out of order"),
        ("nan", "the model returned NaN or infinity"),
        ("shape", r"the model has 3 classes, the data have 4 classes"),
        ("tuple", "the model returned a tuple of .*; expected logits"),
    ],
    ids=["raises", "nan", "shape", "tuple"],
)
def test_a_model_that_cannot_predict_is_refused_at_once_with_its_role(
    options, tmp_path, failure, message
):
    path = tmp_path / "unusable.pth"
    torch.save(Unusable(failure).state_dict(), path)
    roles, given = {**options.roles, "candidate": path}, {"failure": failure}
    changed = options.but(roles=roles, model=f"{__name__}:Unusable", model_args=given)
    with pytest.raises(InputError, match=rf"candidate .*unusable\.pth: {message}"):
        open_session(changed, workers=1)


def test_the_users_builder_is_not_for_shipped_models(options):
    """The builder would reject the shipped file's tensors."""
    weights = options.checkpoints["candidate"].with_name("weights.pth")
    changed = options.but(
        roles={**options.roles, "candidate": weights},
        model="harness.networks.architectures:FashionCNN",
        model_args=ARGUMENTS,
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
        (
            ("sizes=[1, 2]", "pair=(3, 4)", "table={'a': 1}"),
            {"sizes": [1, 2], "pair": (3, 4), "table": {"a": 1}},
        ),
        (("kind=large",), {"kind": "large"}),
        (("kind='large'",), {"kind": "large"}),
        (("kind=",), {"kind": ""}),
        (("path=a=b",), {"path": "a=b"}),
        (("kind=__import__('os').getcwd()",), {"kind": "__import__('os').getcwd()"}),
    ],
    ids=[
        "none",
        "int",
        "scalars",
        "containers",
        "bare-string",
        "quoted",
        "empty",
        "equals-sign",
        "code",
    ],
)
def test_arguments_are_literals_or_else_strings(given, expected):
    pairs = [f"model_args.{each}" for each in given]
    network = Builder(f"{__name__}:Recorder", values_of(pairs, SETTINGS).get("model_args", {}))()
    assert isinstance(network, nn.Module)
    assert network.arguments == expected


def test_every_call_builds_a_network_of_its_own():
    builder = Builder(
        "harness.networks.architectures:FashionCNN", {"conv_channels": [2], "fc_sizes": [4]}
    )
    assert builder() is not builder()
    assert builder().conv1.weight.shape == (2, 1, 3, 3)


def test_the_working_directory_is_importable(tmp_path, monkeypatch):
    (tmp_path / "my_network_here.py").write_text(
        "from torch import nn\ndef make(n): return nn.Linear(n, 2)\n"
    )
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
    [
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("torch.nn:NoSuchLayer", "NoSuchLayer"),
    ],
    ids=["module", "attribute"],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(spec, reason):
    with pytest.raises(InputError, match=rf"model {spec}: cannot be imported \(.*{reason}"):
        Builder(spec, {})


@pytest.mark.parametrize(
    ("file", "module"),
    [("net.py", "net"), ("networks/small.py", "networks.small")],
    ids=["here", "in-a-folder"],
)
def test_a_file_in_place_of_a_module_is_answered_by_the_module(file, module):
    with pytest.raises(
        InputError, match=rf"; {file} is a file, so write its module, {module}:make\n"
    ):
        Builder(f"{file}:make", {})


@pytest.mark.parametrize(
    "source",
    [
        "def make(:",
        "1 / 0",
        "raise RuntimeError('needs a GPU')",
        "raise ImportError('half installed')",
    ],
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
        (f"{__name__}:CLASSES", {}, "building the network failed .*not callable"),
        ("torch.nn:Linear", {"width": 3}, "building the network failed .*width"),
        (f"{__name__}:returns_none", {}, "NoneType"),
    ],
    ids=["raises", "not-callable", "wrong-argument", "returns-no-network"],
)
def test_a_callable_that_gives_no_network_is_refused(spec, arguments, message):
    with pytest.raises(InputError, match=rf"model {spec}: .*{message}"):
        Builder(spec, arguments)()
