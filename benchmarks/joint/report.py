"""The comparison of rules as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.joint.compare import ORDINARY, SHARES, few, nominal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.joint.compare import Compared, Confirmed
    from benchmarks.joint.networks import Networks


def tables(found: Networks, compared: Sequence[Compared], confirmed: Sequence[Confirmed]) -> str:
    """Return the comparison on the half that chooses, and the chosen rule on the other."""
    mutants, half = ~found.healthy & ~found.trivial, found.choosing
    choose, gate = int((mutants & half).sum()), int(found.detected[mutants & half].sum())
    families = len({check.family for check in found.checks})
    shares = [f"{share:.1%}" for share in SHARES]
    lines = [
        f"{len(found.checks)} checks of {families} families, {len(found.panel)} reference models. "
        f"The gate detects {gate} of the {choose} mutants that choose.",
        "",
        f"| rule | detected of {choose} at {', '.join(shares)} | networks of the recipe beyond the limit | "
        f"beyond the limits of {', '.join(f'{share:.0%}' for share in ORDINARY)} |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each.rule} | {', '.join(str(each.choosing[share]) for share in SHARES)} | "
            f"{', '.join(str(each.healthy[share]) for share in SHARES)} | "
            f"{', '.join(f'{each.beyond[share]:.0%}' for share in ORDINARY)} |"
            for each in compared
        ),
        "",
        "| chosen rule, other half | share | detected | by the gate | by either | networks of the recipe failed |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {each.rule} | {each.share:.1%} | {each.detected} of {each.mutants} | {each.by_gate} | "
            f"{each.by_either} | {len(each.failed)} of {each.healthy} {' '.join(each.failed)} |"
            for each in confirmed
        ),
        "",
        *_nominal(found),
        "",
        "| reference models, 200 draws | level | networks of the recipe beyond it | mutants beyond it |",
        "| --- | --- | --- | --- |",
        *(f"| {each.models} | {each.level:.0%} | {each.healthy:.1%} | {each.mutants:.1%} |" for each in few(found)),
    ]
    return "\n".join(lines)


def _nominal(found: Networks) -> list[str]:
    """Return the table of the Cauchy combination at its own levels, on the networks seen and on new ones."""
    lines = [
        "| Cauchy combination at its own level | networks | of the recipe | mutants | with the gate |",
        "| --- | --- | --- | --- | --- |",
    ]
    for words, among in (("seen", ~found.new), ("new", found.new)):
        healthy, mutants = int((found.healthy & among).sum()), int((~found.healthy & ~found.trivial & among).sum())
        lines += [
            f"| {each.level:.1%} | {words} | {each.healthy} of {healthy} | {each.mutants} of {mutants} | "
            f"{each.either} |"
            for each in (nominal(found, among) if healthy + mutants else ())
        ]
    return lines
