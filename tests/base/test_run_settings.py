"""A setting is declared once; pytest, the commands and Python each name it in their way."""

import pytest

from harness.base.errors import InputError, told
from harness.run.settings import ON_LINE, SETTINGS, option_of_command, option_of_pytest


@pytest.mark.parametrize(
    ("error", "by_pytest", "by_command", "in_python"),
    [
        (InputError("none", setting="size 0"), "size 0: none", "--size 0: none", "size 0: none"),
        (
            InputError("none", setting="channels 2"),
            "channels 2: none",
            "channels 2: none",
            "channels 2: none",
        ),
        (
            InputError("none", setting="samples 0"),
            "--stress-samples 0: none",
            "--samples 0: none",
            "samples 0: none",
        ),
        (
            InputError("none", setting="baseline"),
            "--baseline: none",
            "--baseline: none",
            "baseline: none",
        ),
        (InputError("none", below=["more"]), "none\nmore", "none\nmore", "none\nmore"),
    ],
)
def test_each_surface_names_the_setting_in_its_way(error, by_pytest, by_command, in_python):
    assert told(error, option_of_pytest) == by_pytest
    assert told(error, option_of_command) == by_command
    assert str(error) == in_python


def test_pytest_has_few_options_and_every_setting_says_its_default():
    assert {option_of_pytest(name) for name in ON_LINE} == {
        *("--checks", "--stress-profile", "--stress-samples"),
        *(
            "--stress-budget",
            "--stress-plan",
            "--stress-reports",
            "--stress-device",
            "--stress-backend",
        ),
        *("--stress-no-cache", "--stress-stop", "--stress-unlabeled"),
    }
    assert [name for name, setting in SETTINGS.items() if "(default: " not in setting.help] == []
    assert [name for name, setting in SETTINGS.items() if "--stress" in setting.help] == []
