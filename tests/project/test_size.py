"""The size of the house: no room has more lines or statements than its entry in `sizes.toml`.

`python tests/project/test_size.py --write` lowers entries to today's sizes, and adds rooms that have none. It raises
none: to raise an entry, edit it, and say why in the message of the same commit.
"""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

HOUSE = Path(__file__).parents[2] / "harness"
ENTRIES = Path(__file__).with_name("sizes.toml")
HEAD = (
    "# The most lines of code files, and statements (nodes `ast.stmt`), of each room of harness/; see test_size.py.\n"
)


def sizes(house):
    """Return lines and statements of the code of each room, by its name; files outside a room are `harness`."""
    found = {}
    for file in sorted(house.rglob("*.py")):
        room = file.relative_to(house).parts[0] if file.parent != house else house.name
        text = file.read_text("utf-8")
        now = found.setdefault(room, {"lines": 0, "statements": 0})
        now["lines"] += len(text.splitlines())
        now["statements"] += sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(text)))
    return found


def exceeded(now, entries):
    """Return a line for each size beyond its entry, for a room without an entry, and for an entry without a room."""
    lines = [f"{room}: no entry" for room in now.keys() - entries.keys()]
    lines += [f"{room}: an entry, but no such room" for room in entries.keys() - now.keys()]
    for room in now.keys() & entries.keys():
        lines += [
            f"{room}: {now[room][kind]:,} {kind}, at most {most:,}"
            for kind, most in entries[room].items()
            if now[room][kind] > most
        ]
    return sorted(lines)


def lowered(now, entries):
    """Return the entries that `--write` writes: of each room the smaller of its size and its entry."""
    return {
        room: {kind: min(value, entries.get(room, {}).get(kind, value)) for kind, value in now[room].items()}
        for room in sorted(now)
    }


def as_toml(entries):
    rows = [f"{room} = {{ lines = {of['lines']}, statements = {of['statements']} }}" for room, of in entries.items()]
    return HEAD + "\n".join(rows) + "\n"


def read():
    return tomllib.loads(ENTRIES.read_text("utf-8")) if ENTRIES.exists() else {}


def test_no_room_outgrows_its_entry():
    lines = exceeded(sizes(HOUSE), read())
    assert not lines, "\n".join(
        [*lines, "Remove as much elsewhere in the room, or raise its entry in tests/project/sizes.toml and say why."]
    )


def test_entries_follow_rooms_that_have_shrunk():
    now = {room: {kind: value + value // 20 for kind, value in of.items()} for room, of in sizes(HOUSE).items()}
    larger = [room for room, of in read().items() for kind, most in of.items() if most > now[room][kind]]
    assert not larger, f"more than 5% above their size: {larger}; run: python tests/project/test_size.py --write"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"lines": 3, "statements": 2}, []),
        ({"lines": 2, "statements": 2}, ["room: 3 lines, at most 2"]),
        ({"lines": 9, "statements": 1}, ["room: 2 statements, at most 1"]),
    ],
)
def test_a_room_beyond_its_entry_is_named(tmp_path, entry, said):
    (tmp_path / "room").mkdir()
    (tmp_path / "room/code.py").write_text("def f():\n    # A comment.\n    return 1\n")
    now = sizes(tmp_path)
    assert now == {"room": {"lines": 3, "statements": 2}}
    assert exceeded(now, {"room": entry}) == said
    assert exceeded(now, {}) == ["room: no entry"]
    assert exceeded({}, {"room": entry}) == ["room: an entry, but no such room"]
    assert lowered(now, {"room": entry})["room"] == {kind: min(entry[kind], now["room"][kind]) for kind in entry}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    ENTRIES.write_text(as_toml(lowered(sizes(HOUSE), read())), "utf-8")
