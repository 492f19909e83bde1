"""Gates files that share what a panel knows, such as those of the default and of the quick profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.calibration.knowing import judges_as
from harness.store import alone, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from harness.measures.knowledge import Knowledge


def pass_on(gates: Path, new: Knowledge, old: Knowledge) -> list[str]:
    """Have the gates files beside this one that declare the old file by its hash declare the new, which is written.

    Returns a line on each. One whose bounds were made with what is known no more stays as it is, and says so.
    """
    lines: list[str] = []
    if old.sha256 == new.sha256:
        return lines
    for path in sorted(gates.parent.glob("*.toml")):
        if path.resolve() == gates.resolve() or old.sha256.encode() not in path.read_bytes():
            continue
        if not judges_as(new, old):
            lines.append(f"{path}: its bounds were made with what the panel knew before; calibrate it, too")
            continue
        with alone(path.resolve()):
            content = path.read_bytes().replace(old.sha256.encode(), new.sha256.encode())
            write_atomically(path.resolve(), content)
        lines.append(f"{path}: shares it, and names the new file now; its bounds stay")
    return lines
