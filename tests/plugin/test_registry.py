"""Corruptions and metrics of a user's own, by name in rows of the checks file.

Declared in conftest.py or a package.
"""

import numpy as np
import pytest
from zoo import ROWS, images_of, role_model, write

from harness.base.cache import Store
from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.calibration.recording import Recording
from harness.checks import Check, read_checks
from harness.inference.platforms import measuring_code
from harness.measures import Measurement, Metric, Unit, measure
from harness.perturb.corruptions import (
    CORRUPTIONS,
    SHIPPED,
    Corruption,
    CorruptionFunction,
    corruption,
)

DUSK = '''
import numpy as np

from harness.measures import Measurement, Metric, Unit, measure
from harness.perturb.corruptions import corruption


@corruption("dusk", levels=(0.1, 0.2, 0.3, 0.4, 0.5))
def dusk(images, share, draws):
    """Take this share of the light."""
    return images * (1 - share)


TORN = Metric("torn", Unit.SHARE, better="less", words="torn between two")


@measure(TORN)
def torn(predictions):
    """Return the share of images whose two likeliest classes are within 10 points."""
    second, first = np.sort(predictions.probabilities, axis=1)[:, -2:].T
    return Measurement(TORN, float((first - second < 0.1).mean()), len(first), (0.0, 1.0))

'''
USED = """
from conftest import torn
from harness.plugin import check

@check("torn")
def test_torn(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(torn(candidate.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
OWN = """
[[check]]
id = "corrupt-dusk-3"
family = "corruption"
metric = "accuracy"
corruption = "dusk"
severity = 3
hand = { threshold = 0.5 }

[[check]]
id = "torn"
family = "torn"
metric = "torn"
hand = { threshold = 0.5 }
"""


TESTS = ("clean", "rotation", "confident_errors", "corruption")
BOUND = ROWS + OWN
DECLARES, FILES = (
    "stress_tests/conftest.py",
    {"stress_tests/conftest.py": DUSK, "stress_tests/test_torn.py": USED},
)


def test_they_work_in_rows_by_their_names(shared):
    ran = shared.once(files=FILES)
    assert ran.ending == (0, "pass")
    found = {name: (check["status"], check["direction"]) for name, check in ran.checks.items()}
    assert found["corrupt-dusk-3"] == ("pass", "at_least")
    assert found["torn"] == ("pass", "at_most")


BEFORE, TORN = OWN.split('id = "torn"')


@pytest.mark.parametrize(
    ("rows", "declares", "said"),
    [
        (
            f'{BEFORE}id = "torn"{TORN.replace("0.5", "1.5")}',
            DUSK,
            "threshold 1.5 is outside the range of torn",
        ),
        (
            ROWS + OWN,
            DUSK.replace('"dusk"', '"dawn"'),
            "'corrupt-dusk-3' of test_accuracy_survives_corruption: corru",
        ),
    ],
    ids=["threshold", "undeclared"],
)
def test_a_threshold_or_a_corruption_that_cannot_be_is_refused(shared, rows, declares, said):
    ran = shared.once(files={**FILES, DECLARES: declares}, rows=rows)
    assert ran.ending == (4, "error")
    assert said in ran.why


def test_a_name_that_ships_or_is_taken_is_refused_and_both_are_named():
    with pytest.raises(
        InputError, match=r"'fog' is declared by test_registry.darker .*ships with the harness"
    ):
        corruption("fog", levels=(1, 2, 3, 4, 5))(darker)
    corruption("dusk", levels=(1, 2, 3, 4, 5))(darker)
    corruption("dusk", levels=(1, 2, 3, 4, 5))(darker)  # The same again.
    with pytest.raises(
        InputError,
        match=r"declared twice, by test_registry.darker .* and by test_registry.lighter ",
    ):
        corruption("dusk", levels=(1, 2, 3, 4, 5))(lighter)
    with pytest.raises(InputError, match=r"metric 'accuracy' is declared by test_registry.darker"):
        measure(Metric("accuracy", Unit.SHARE, better="less"))(darker)


@pytest.mark.parametrize("name", ["", "all", "Dusk", "at dusk"])
def test_a_name_that_rows_cannot_have_is_refused(name):
    with pytest.raises(InputError, match="expected a name of lower-case ASCII letters"):
        corruption(name, levels=(1, 2, 3, 4, 5))


def test_a_level_for_each_severity_is_asked_for():
    with pytest.raises(InputError, match="4 levels, expected one for each severity from 1 to 5"):
        corruption("dusk", levels=(1, 2, 3, 4))


def test_a_metric_of_a_known_name_that_is_another_is_not_judged():
    check = Check("clean", "clean", "accuracy")
    mine = Metric("accuracy", Unit.SHARE, better="more", words="mine")
    with pytest.raises(InputError, match="but this is the name of another, known metric"):
        check.judge(Measurement(mine, 0.9, 10, (0.8, 1.0)))


def darker(images, share, _draws):
    return images * (1 - share)


def lighter(images, share, _draws):
    return np.asarray(images + share, dtype=np.float32)


def test_the_cache_keeps_no_answer_under_a_users_code(tmp_path, monkeypatch):
    corruption("dusk", levels=(0.1, 0.2, 0.3, 0.4, 0.5))(darker)
    model, cache = role_model(), Store(tmp_path)
    classifier = model.classifier
    monkeypatch.setattr(classifier, "_cache", cache)
    stored = []
    monkeypatch.setattr(cache, "store", lambda key, _values: stored.append(key))
    classifier.predict(images_of(8), Corruption("dusk", 3))
    assert stored == []
    classifier.predict(images_of(8), Corruption("fog", 3))
    assert stored != []


def test_what_is_over_all_corruptions_is_over_those_that_ship(tmp_path):
    from harness.inference import under_corruption

    corruption("dusk", levels=(0.1, 0.2, 0.3, 0.4, 0.5))(darker)
    assert "dusk" in CORRUPTIONS
    assert list(under_corruption(role_model(), images_of(4), "all")) == list(SHIPPED)


def test_calibration_measures_anew_when_the_code_changes(zoo):
    write(zoo.root / DECLARES, DUSK)
    recording = Recording(zoo.tests, read_checks(zoo.checks))
    before = recording.definition()
    (zoo.tests / "conftest.py").write_text(DUSK.replace("1 - share", "1 - share / 2"))
    assert recording.definition() != before


# Added by an installed package.

TWILIGHT = """
def stress_corruptions():
    from harness.perturb.corruptions import CorruptionFunction

    return {"twilight": CorruptionFunction(darker, (0.1, 0.2, 0.3, 0.4, 0.5))}


def darker(images, share, draws):
    return images * (1 - share)
"""


def test_an_installed_package_adds_some_by_a_hook(install):
    install("twilight", TWILIGHT)
    table = Registry("corruption", CorruptionFunction, SHIPPED, hook="stress_corruptions")
    assert [*table] == [*SHIPPED, "twilight"]
    assert table["twilight"].levels[1] == 0.2
    assert table.ships("fog")
    assert not table.ships("twilight")
    with pytest.raises(
        InputError, match=r"'twilight' is declared by .*darker .* and added by entry point tw"
    ):
        table.add("twilight", table["fog"], declared_by=darker)


def test_measurements_know_the_code_of_installed_packages(install):
    before = measuring_code.__wrapped__()
    path = install("twilight", TWILIGHT)
    installed = measuring_code.__wrapped__()
    path.write_text(TWILIGHT.replace("1 - share", "1 - share / 2"))
    assert len({before, installed, measuring_code.__wrapped__()}) == 3
