"""Samples fit into the time, cheap families keep more images, and the power is right."""

import pytest

from harness.inference.standins import Asked, Ledger
from harness.report.costs import plan_lines
from harness.run.budget import CHECKS, LEAST, START, Costs, fitting_samples, plan_from

COSTS = {"clean": 0.01, "rotation": 0.08, "corruption": 1.0}
MANY = dict.fromkeys(COSTS, 50_000)


def spent(samples, images=MANY):
    return sum(cost * samples.get(family, images[family]) for family, cost in COSTS.items())


def test_where_all_fits_nothing_is_sampled():
    assert fitting_samples(COSTS, images=dict.fromkeys(COSTS, 1_000), seconds=1_091) == {}


@pytest.mark.parametrize("seconds", [900, 3_000, 20_000])
def test_samples_fit_and_use_the_time(seconds):
    samples = fitting_samples(COSTS, images=MANY, seconds=seconds)
    assert 0.98 * seconds < spent(samples) <= seconds
    everyone = [samples.get(family, 50_000) for family in COSTS]
    assert everyone == sorted(everyone, reverse=True), "the dearer, the fewer"


def drops(samples):
    """Return the sum of the families' drops: each falls with the root of its number of images."""
    return sum(samples.get(family, 50_000) ** -0.5 for family in COSTS)


def test_no_other_samples_of_the_same_cost_notice_smaller_losses():
    samples = fitting_samples(COSTS, images=MANY, seconds=3_000)
    best = drops(samples)
    less = {
        **samples,
        "corruption": samples["corruption"] - 100,
        "rotation": samples["rotation"] + 1_250,
    }
    more = {
        **samples,
        "corruption": samples["corruption"] + 100,
        "rotation": samples["rotation"] - 1_250,
    }
    assert all(drops(other) > best for other in (less, more))


def test_families_that_look_at_the_same_answers_count_for_each():
    alone = fitting_samples(COSTS, images=MANY, seconds=3_000)
    three = fitting_samples(COSTS, images=MANY, seconds=3_000, alike={"rotation": 3})
    assert three["rotation"] > alone["rotation"]
    assert three["corruption"] < alone["corruption"]


def test_a_family_without_passes_has_no_sample_and_none_has_too_few():
    samples = fitting_samples({**COSTS, "class": 0.0}, images={**MANY, "class": 50_000}, seconds=1)
    assert samples == dict.fromkeys(COSTS, LEAST)


SIZES = {"clean": 10_000, "class": 10_000, "rotation": 10_000, "search": 10_000}
SEARCHED = 2_000


def counted(samples):
    """Stand for a run.

    Two families look at the same answers, and one searches a sample of its own.
    """
    now = {family: samples.get(family, size) for family, size in SIZES.items()}
    asked = {name: Asked(images=now[name]) for name in SIZES}
    asked["clean"].add(poses=now["clean"])
    if now["class"] == now["clean"]:
        asked["class"].shares.add("clean")
    else:
        asked["class"].add(poses=now["class"])
    asked["rotation"].add(poses=8 * now["rotation"])
    searched = min(SEARCHED, now["search"])
    asked["search"] = Asked(poses=100 * searched, images=searched)
    asked[CHECKS] = Asked(poses=500, images=500)
    return Ledger(asked)


def test_the_samples_found_are_counted_anew_and_fit():
    whole = sum(asked.poses for asked in counted({}).asked.values())
    for share in (0.7, 0.3, 0.1):
        fit = plan_from(counted, SIZES, Costs(1.0, 3.0, 0, cores=2), budget=share * whole / 2)
        taken = sum(asked.poses for asked in counted(fit.samples).asked.values())
        assert fit.fits
        assert fit.total.seconds == taken / 2
        assert 0.85 * share * whole < taken <= 1.05 * share * whole
        assert fit.samples.get("class") == fit.samples.get("clean"), (
            "else its answers would be new work"
        )
        assert fit.samples["search"] < SEARCHED, (
            "more images cost it nothing, and fewer than it searches something"
        )


def test_a_time_that_is_too_short_is_told():
    fit = plan_from(counted, SIZES, Costs(1.0, 3.0, 0), budget=1)
    assert not fit.fits
    assert set(fit.samples.values()) == {LEAST}


def test_families_that_keep_their_images_leave_the_others_less():
    whole = sum(asked.poses for asked in counted({}).asked.values())
    fit = plan_from(
        counted, SIZES, Costs(1.0, 3.0, 0), budget=0.5 * whole, kept={"clean", "rotation"}
    )
    assert fit.fits
    assert set(fit.samples) == {"search"}


def test_start_and_report_are_part_of_the_time():
    whole = sum(asked.poses for asked in counted({}).asked.values())
    costs = Costs(1.0, 3.0, 0, besides_seconds=0.2 * whole)
    fit = plan_from(counted, SIZES, costs, budget=0.7 * whole)
    taken = sum(asked.poses for asked in counted(fit.samples).asked.values())
    assert fit.lines[START].seconds == 0.2 * whole
    assert fit.total.seconds == pytest.approx(taken + 0.2 * whole)
    assert fit.fits
    assert fit.whole == 1.2 * whole


def test_a_plan_explains_only_what_it_has():
    plain = "\n".join(plan_lines(plan_from(counted, SIZES, Costs(0.001, 0.003, 0))))
    assert "Grad-CAM" not in plain
    assert "searches end early" in plain
    few = plan_from(
        lambda _: Ledger({"clean": Asked(poses=9, maps=2)}), {"clean": 9}, Costs(0.001, 0.003, 0)
    )
    said = "\n".join(plan_lines(few))
    assert "1 ms per image and pose, 3 ms per Grad-CAM map" in said
    assert "searches" not in said
