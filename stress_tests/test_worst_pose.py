"""A prediction must be correct at every small pose, not at most of them.

An adversary needs only one.
"""

from dataclasses import replace

from harness.checks import Key, one_of
from harness.inference.search import correct_at, first_failures
from harness.measures import random_pose_accuracy, robust_accuracy, worst_of_ten
from harness.perturb.grids import GRIDS, GRIDS_IN_WORDS, most_dangerous_first, random_poses
from harness.plugin import check

GRID = Key("grid", one_of(GRIDS), lambda grid: f"correct at all poses of {GRIDS_IN_WORDS[grid]}")
RANDOM = replace(GRID, words=lambda grid: f"random poses of {GRIDS_IN_WORDS[grid]}")
TEN = replace(GRID, words=lambda grid: f"correct at ten random poses of {GRIDS_IN_WORDS[grid]}")


@check("search", GRID, metric="robust_accuracy")
def test_right_at_every_pose(candidate, search_images, evidence, stress_check):
    grid = GRIDS[stress_check[GRID]](search_images.domain.augmentation)
    poses = most_dangerous_first(grid)
    found = first_failures(candidate.classifier, search_images, poses)
    verdict = stress_check.judge(robust_accuracy(found, clean=candidate.predict(search_images)))
    evidence.show(verdict, found)
    assert verdict.passed, verdict.explain()


@check("search", RANDOM, metric="random_pose_accuracy")
def test_accuracy_at_random_poses(candidate, search_images, evidence, stress_check):
    grid = GRIDS[stress_check[RANDOM]](search_images.domain.augmentation)
    drawn = random_poses(grid, 10, images=len(search_images))
    correct = correct_at(candidate.classifier, search_images, grid, drawn)
    verdict = stress_check.judge(
        random_pose_accuracy(correct, clean=candidate.predict(search_images))
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("search", TEN, metric="worst_of_ten")
def test_right_at_the_worst_of_ten_random_poses(candidate, search_images, evidence, stress_check):
    grid = GRIDS[stress_check[TEN]](search_images.domain.augmentation)
    drawn = random_poses(grid, 10, images=len(search_images))
    correct = correct_at(candidate.classifier, search_images, grid, drawn)
    verdict = stress_check.judge(worst_of_ten(correct, clean=candidate.predict(search_images)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
