"""Decide the claims from stored results, and write the table of the README."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.claims.claims import CLAIMS, Claim, Decision, decide
from benchmarks.claims.measure import AUGMENTED, BASELINE, Network
from benchmarks.pages import write_between
from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


@dataclass(frozen=True)
class Results:
    """Measurements of all networks, with their images, recipe and versions."""

    images: Mapping[str, int]
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    networks: tuple[Network, ...]

    def values(self, kind: str, name: str) -> list[float]:
        """Return a measure's values of the networks of a kind, those that have it."""
        return [one.values[name] for one in self.networks if one.kind == kind and name in one.values]

    def seeds(self, kind: str) -> list[int]:
        """Return the seeds of the networks of a kind, ascending."""
        return sorted(one.seed for one in self.networks if one.kind == kind)

    def decide(self, claim: Claim) -> Decision:
        """Decide a claim by the networks."""
        return decide(claim, self.values(BASELINE, claim.value), self.values(AUGMENTED, claim.value))

    def write(self, path: Path = RESULTS) -> None:
        """Write the results as JSON, complete or not at all."""
        content = {
            "images": self.images,
            "recipe": self.recipe,
            "versions": self.versions,
            "networks": [one.as_json() for one in self.networks],
        }
        write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_results(path: Path = RESULTS) -> Results:
    """Read what `Results.write` wrote; raises `InputError` when it cannot be used."""
    try:
        content = json.loads(path.read_bytes())
        return Results(**{**content, "networks": tuple(Network(**one) for one in content["networks"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: no results ({error!r}); `python -m benchmarks.claims` measures them") from None


def write_table(results: Results, readme: Path = README) -> None:
    """Replace the table between the markers of the benchmark's README."""
    write_between(readme, BEGIN, END, full_table(results))


def full_table(results: Results) -> str:
    """Return the benchmark's table in Markdown, with the names of its networks."""
    lines = [
        f"{_networks(results, BASELINE)} and {_networks(results, AUGMENTED)}, measured with torch "
        f"{results.versions.get('torch', 'unknown')}.",
        "",
        "| claim | measure | images | baseline | augmented | estimate | 95% interval | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for claim in CLAIMS:
        decision = results.decide(claim)
        low, high = (_signed(end, claim) for end in decision.interval)
        images = results.images.get(claim.images, 0)
        lines.append(
            f"| {claim.says} | {claim.measure} | {f'{images:,}' if images else 'no training images'} | "
            f"{_facts(decision.baseline, claim)} | {_facts(decision.augmented, claim)} | "
            f"{_signed(decision.estimate, claim)} | {low} to {high} | {_verdict(decision)} |"
        )
    return "\n".join([*lines, "", _count(results)])


def _networks(results: Results, kind: str) -> str:
    seeds = results.seeds(kind)
    many = "s" if len(seeds) != 1 else ""
    return f"{len(seeds)} {kind} network{many} (seed{many} {_spans(seeds)})"


def _spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs put together, such as "1 to 20, 42"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join((" to " if span[-1] - span[0] > 1 else ", ").join(map(str, span)) for span in spans) or "none"


def _count(results: Results) -> str:
    verdicts = [results.decide(claim).verdict for claim in CLAIMS]
    parts = [
        f"{verdicts.count(name)} {name}" for name in ("confirmed", "refuted", "not decided", "not measured")
        if name in verdicts
    ]  # fmt: skip
    return f"The verdicts on {len(CLAIMS)} claims are {', '.join(parts)}."


def _facts(facts: tuple[float, float, int], claim: Claim) -> str:
    mean, std, _ = facts
    spread = "" if math.isnan(std) else f" ± {_scaled(std, claim)}"
    return f"{_number(mean, claim)}{spread}"


def _number(value: float, claim: Claim) -> str:
    if math.isnan(value):
        return "–"
    return _scaled(value, claim) + {"share": "%", "points": " points"}.get(claim.unit, "")


def _signed(value: float, claim: Claim) -> str:
    if math.isnan(value):
        return "–"
    points = claim.unit in {"share", "points"}
    return ("+" if value >= 0 else "−") + _scaled(abs(value), claim) + (" points" if points else "")


def _scaled(value: float, claim: Claim) -> str:
    scale, digits = {"share": (100, 2), "points": (100, 2), "images": (1, 0)}.get(claim.unit, (1, 3))
    return f"{value * scale:.{digits}f}".replace("-", "−")


def _verdict(decision: Decision) -> str:
    return f"**{decision.verdict}**" if decision.verdict == "refuted" else decision.verdict
