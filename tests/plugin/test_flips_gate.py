"""Checks of correct predictions that are lost: they can pass, they can fail, and they say where they do not apply."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from zoo import network

from harness.inference import Classifier

ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.5 }

[[check]]
id = "flips"
family = "flips"
metric = "negative_flips"
hand = { threshold = 20 }

[[check]]
id = "flips-bee"
family = "flips"
metric = "negative_flips"
class = "bee"
hand = { threshold = 10 }

[[check]]
id = "flips-consensus"
family = "flips"
metric = "negative_flips"
among = "consensus"
"""


pytestmark = pytest.mark.zoo(ROWS, tests=("clean", "flips"))


@pytest.fixture(autouse=True)
def an_incumbent(zoo):
    zoo.save("models/incumbent.safetensors")


def test_few_negative_flips_pass_and_many_fail(zoo):
    zoo.save("near.safetensors", jitter=0.02, seed=1)
    assert zoo.run("--candidate", "near.safetensors").ret == 0
    kept = {"clean": "pass", "class": "informational", "flips": "pass", "flips-bee": "pass"}
    assert zoo.statuses == {**kept, "flips-consensus": "not_applicable"}, "nobody recorded what reference models know"

    zoo.save("far.safetensors", jitter=3.0, seed=1)
    result = zoo.run("--candidate", "far.safetensors")
    assert result.ret == 1
    assert zoo.statuses["flips"] == "fail"
    before, now = (
        Classifier(network(**facts), workers=1).predict(zoo.images).correct
        for facts in ({}, {"jitter": 3.0, "seed": 1})
    )
    lost = int((before & ~now).sum())
    result.stdout.fnmatch_lines([f"*flips: negative flips {lost} > threshold 20 (n=400*gained in return; most often*"])
    assert np.isclose(next(check["value"] for check in zoo.report()["checks"] if check["id"] == "flips"), lost)


def test_the_incumbent_itself_and_a_run_without_one_have_no_flips(zoo):
    zoo.run("--candidate", "models/incumbent.safetensors")
    assert {zoo.statuses[name] for name in ("flips", "flips-bee", "flips-consensus")} == {"not_applicable"}
    zoo.run("--candidate", "models/augmented.safetensors", "--incumbent", "none")
    assert {zoo.statuses[name] for name in ("flips", "flips-bee", "flips-consensus")} == {"not_applicable"}
