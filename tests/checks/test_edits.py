"""Edits of a checks file that a person wrote: nothing but their subject changes, not a byte."""

import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import calibrate, check, panel_of

from harness.base.errors import InputError
from harness.checks.edits import (
    uncalibrated,
    with_data,
    with_domain,
    with_entries,
    with_rows,
    with_samples,
    with_settings,
    with_table,
    with_thresholds,
)
from harness.checks.tables import hash_of, split
from harness.data.domain import AugmentationRange, Domain

LINES_BETWEEN = ["", "\n", "\n\n", "# ours\n", "\n# on what follows\n", "# [gate]\n\n", "  # so\n"]
ENTRIES = ["b = 1\n", 'c = "]"  # [d]\n', "d = [\n[1],\n  [2],\n]\n", 'e = """\n[gate]\n"""\n', ""]
TABLES = [
    "[recipe]\nabout = 'none'\n",
    "[recipe.training]\nepochs = 2  # few\n",
    "[data.samples] # by hand\nclean = 3\n",
    "  [unlabeled]\n  n = 2\n",
    "[golden]\n# Ask Ann first.\nn = 1\n",
]
PROJECT = {"data": "npz:a.npz", "size": "64", "model_args": {"width": 2}}
DOMAIN = Domain(AugmentationRange(rotate=10), "mean")
SHARED = {"max_examples": 60, "deadline": None}


def row(check_id, entries):
    return f'[[check]]\nid = "{check_id}"\nfamily = "rotation"\nmetric = "accuracy"\n{entries}'


@st.composite
def checks_files(draw):
    """Return the text of a checks file as a person may write it.

    Tables in any order, with comments anywhere.
    """
    between, entries = st.sampled_from(LINES_BETWEEN), st.sampled_from(ENTRIES)
    rows = [row(f"row-{number}", draw(entries)) for number in range(draw(st.integers(0, 3)))]
    others = draw(st.lists(st.sampled_from(TABLES), unique=True, max_size=4))
    data = f"[data] # of a shop\nn = 3\n{draw(entries)}"
    tables = draw(st.permutations([data, *rows, *others]))
    head = draw(st.sampled_from(["schema = 2\n", "# ours\n\nschema = 2 # two\nprotocol = 1\n"]))
    return "".join([head, *(draw(between) + table for table in tables), draw(between)])


@settings(**SHARED)
@given(checks_files())
def test_settings_of_the_project_change_nothing_else(text):
    edited = with_settings(text, PROJECT)
    table, others = split(edited)
    assert tomllib.loads(table)["gate"] == {**PROJECT, "size": 64}
    assert tomllib.loads(edited) == {**tomllib.loads(text), "gate": {**PROJECT, "size": 64}}
    assert others == text
    assert hash_of(edited.encode()) == hash_of(text.encode())
    more = with_settings(edited, {"normalization": "imagenet"})
    assert more.replace('normalization = "imagenet"\n', "") == edited


@settings(**SHARED)
@given(checks_files())
def test_entries_of_the_data_come_and_go_and_nothing_else_changes(text):
    edited = with_data(text, {"groups_sha256": "ab"})
    assert edited.replace('groups_sha256 = "ab"\n', "") == text
    assert with_data(edited, {"groups_sha256": None}) == text
    assert with_data(edited, {"groups_sha256": "ab"}) == edited
    assert with_domain(with_domain(text, DOMAIN), Domain()) == text
    data = tomllib.loads(with_domain(text, DOMAIN))["data"]
    assert {name: data[name] for name in ("augmentation", "border")} == DOMAIN.declared()


@settings(**SHARED)
@given(checks_files())
def test_rows_are_added_and_all_others_stay_as_they_are(text):
    new_rows = [row("new", ""), row("newer", "[check.pose]\ndegrees = 2\n")]
    edited = with_rows(text, new_rows)
    before, after = tomllib.loads(text), tomllib.loads(edited)
    added = [tomllib.loads(new)["check"][0] for new in new_rows]
    assert after == {**before, "check": [*before.get("check", ()), *added]}
    place = edited.index(new_rows[0])
    end = edited.index(new_rows[1]) + len(new_rows[1])
    assert text.startswith(edited[:place].rstrip("\n"))
    assert text.endswith(edited[end:].lstrip("\n"))


@settings(**SHARED)
@given(checks_files())
def test_tables_come_and_go_and_nothing_else_changes(text):
    without, edited = with_samples(text, ()), with_samples(text, ["[data.samples]", "flip = 2"])
    data = tomllib.loads(text)["data"]
    data.pop("samples", None)
    assert tomllib.loads(without) == {**tomllib.loads(text), "data": data}
    assert tomllib.loads(edited)["data"] == {**data, "samples": {"flip": 2}}
    assert comments_of(without) == comments_of(edited) == comments_of(text)


def comments_of(text):
    return [line for line in text.splitlines() if line.lstrip().startswith("#")]


def calibrated(*check_ids):
    values = np.random.default_rng(0).normal(0.9, 0.003, (8, len(check_ids)))
    checks = tuple(check(check_id) for check_id in check_ids)
    return calibrate(panel_of(values, checks))


@settings(**SHARED)
@given(checks_files())
def test_thresholds_change_their_rows_alone(text):
    recipe = tomllib.loads(text).get("recipe", {"about": "8"})
    items = calibrated("row-0", "row-1", "row-2")
    edited = with_thresholds(text, items, recipe=recipe, date="2026-01-01")
    assert with_thresholds(edited, items, recipe=recipe, date="2026-01-01") == edited

    content = tomllib.loads(text)
    present = [entry["id"] for entry in content.get("check", ())]
    for line in edited.splitlines():
        if line.startswith("panel = "):
            edited = edited.replace(f"{line}\n", "", 1)
    after = tomllib.loads(edited)
    assert after.pop("recipe") == recipe
    content.pop("recipe", None)
    rows, rows_before = after.pop("check"), content.pop("check", [])
    assert (rows[: len(present)], after) == (rows_before, content)
    assert [entry["id"] for entry in rows[len(present) :]] == [
        item.check.id for item in items if item.check.id not in present
    ]
    if "recipe" in tomllib.loads(text) and len(present) == 3:
        assert comments_of(edited) == comments_of(text)


@settings(**SHARED)
@given(checks_files())
def test_thresholds_of_a_panel_are_taken_out(text):
    items = calibrated("row-0", "row-1")
    edited = with_thresholds(text, items, recipe={"about": "8"}, date="2026-01-01")
    content = tomllib.loads(uncalibrated(edited))
    assert {"recipe", "golden"}.isdisjoint(content)
    assert not any("panel" in entry for entry in content["check"])


def test_an_entry_with_its_value_keeps_its_spelling():
    text = "[gate]\nsize = 0x40  # pixels\n\n[gate.model_args]\nwidth = 2\n"
    assert with_settings(text, {"size": 64}) == text
    assert with_settings(text, {"size": 32}) == text.replace("0x40", "32")
    assert with_settings(text, {"border": "mean"}) == text.replace(
        "pixels\n", 'pixels\nborder = "mean"\n'
    )


def test_a_file_without_tables_gets_its_first():
    assert with_table("", "recipe", "[recipe]\nn = 1") == "[recipe]\nn = 1\n\n"
    assert with_table("a = 1", "recipe", "[recipe]\nn = 1") == "a = 1\n\n[recipe]\nn = 1\n\n"
    assert with_rows("a = 1", ['[[check]]\nid = "b"']) == 'a = 1\n\n[[check]]\nid = "b"\n'
    with pytest.raises(LookupError, match="data"):
        with_entries("a = 1\n", "data", {"n": 1})
    with pytest.raises(InputError, match="write it as a table of its own"):
        with_data("a = 1\n", {"n": 1})


def test_ends_of_lines_stay():
    text = "schema = 2\r\n\r\n[data]\r\nn = 3\r\n\r\n# ours\r\n[recipe]\r\nn = 1\r\n"
    edited = with_data(text, {"border": "mean"})
    assert edited.replace('border = "mean"\n', "") == text
    assert split(with_settings(text, {"size": 2}))[1] == text
