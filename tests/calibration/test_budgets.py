"""Samples that fit a gate run into a time.

Chosen before calibration, kept in the checks file, measured on.
"""

import pytest

from harness.base.errors import InputError
from harness.checks.edits import with_samples

HEAD = 'schema = 2\n# of what\n[data]\nname = "zoo" # ours\nclasses = [\n    "a",\n]\n'
ROW = '\n# first\n[[check]]\nid = "clean"\n'
SAMPLES = ["[data.samples]  # for 20 min", "rotation = 500", "search = 200"]
WITH = f"{HEAD}\n" + "\n".join(SAMPLES) + f"\n{ROW}"


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        (HEAD + ROW, SAMPLES, WITH),
        (HEAD + ROW, (), HEAD + ROW),
        (WITH, (), HEAD + ROW),
        (WITH.replace("500", "7000"), SAMPLES, WITH),
        (HEAD, SAMPLES, f"{HEAD}\n" + "\n".join(SAMPLES) + "\n"),
    ],
    ids=["added", "none", "removed", "replaced", "at-the-end"],
)
def test_all_but_the_samples_stays_as_it_was(before, lines, after):
    assert with_samples(before, lines) == after


def test_samples_within_the_table_of_the_data_get_one_of_their_own():
    before = "[data]\nsamples = { a = 1 }\nn = 3  # ours\n"
    assert with_samples(before, SAMPLES) == "[data]\nn = 3  # ours\n\n" + "\n".join(SAMPLES) + "\n"


@pytest.mark.parametrize("text", ["data.name = 1\n", "data = { n = 3 }\n", ""])
def test_samples_that_are_written_otherwise_are_told(text):
    with pytest.raises(InputError, match="write it as a table of its own"):
        with_samples(text, SAMPLES)
