"""From predictions to numbers: accuracy, confusion pairs, confident errors, gain and change against another model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import InputError
from harness.flips import Flips, flips

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.search import Breaking, FirstFailures


Unit = Literal["share", "difference", "images", "degrees", "pixels", "factor", "score"]


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a model, measured on `n` images, with its 95% confidence interval.

    `unit` is a share in [0, 1], a difference of shares in [-1, 1], a number of images, a severity, a factor, or a score
    of which 0 is perfect. `detail` says in a few words what is behind the number. `failures` are the positions, in the
    predictions, of the images to show for it, the most telling first. A comparison of two models has the `p_value` of
    no difference, and the `flips` behind.
    """

    metric: str
    value: float
    n: int
    interval: tuple[float, float]
    unit: Unit = "share"
    detail: str = ""
    failures: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    p_value: float | None = None
    flips: Flips | None = None


def accuracy(
    predictions: Predictions, *, of_class: str | None = None, before: Predictions | None = None
) -> Measurement:
    """Return the share of right predictions in [0, 1], of all images or of one true class (its recall).

    The failures to show are wrong answers, or only those of images that were right in the predictions `before`, such
    as those of the same images unperturbed. The interval is Wilson's score interval (Wilson 1927). Raises `InputError`
    for a class that the data lack.
    """
    chosen = np.ones(len(predictions.labels), dtype=bool)
    if of_class is not None:
        chosen = predictions.labels == class_number(predictions, of_class)
    n, right = int(chosen.sum()), int(predictions.correct[chosen].sum())
    if n == 0:
        raise InputError(f"accuracy: none of the {len(chosen)} images is of class {of_class or 'any'!r}")
    wrong = chosen & ~predictions.correct
    return Measurement(
        "accuracy",
        right / n,
        n,
        proportion_interval(right, n),
        detail=_worst_pair(predictions, wrong),
        failures=_telling(predictions, wrong & before.correct if before else wrong),
    )


def pair_failures(predictions: Predictions, *, pair: tuple[str, str]) -> Measurement:
    """Return how many images of either class of the pair are taken for the other, out of all images.

    The interval is that of the failure rate (Wilson 1927) times the number of images.
    """
    first, second = (class_number(predictions, name) for name in pair)
    if first == second:
        raise InputError(f"pair failures: both classes of the pair are {pair[0]!r}; name two different classes")
    labels, predicted = predictions.labels, predictions.predicted
    for label, name in zip((first, second), pair, strict=True):
        if not (labels == label).any():
            raise InputError(f"pair failures: none of the {len(labels)} images is of class {name!r}")
    forth, back = (labels == first) & (predicted == second), (labels == second) & (predicted == first)
    detail = f"{pair[0]}→{pair[1]} {forth.sum()}, {pair[1]}→{pair[0]} {back.sum()}"
    return _count("pair_failures", predictions, forth | back, detail)


def confident_errors(predictions: Predictions, *, above: float) -> Measurement:
    """Return how many images are classified wrongly with a confidence over `above`, in [0, 1].

    The interval is that of the failure rate (Wilson 1927) times the number of images.
    """
    failures = predictions.confidence_of_errors() > above
    return _count("confident_errors", predictions, failures, _worst_pair(predictions, failures))


def accuracy_gain(predictions: Predictions, reference: Predictions) -> Measurement:
    """Return the accuracy of the predictions minus that of a reference model on the same images, in [-1, 1].

    The interval is that of `Flips`. Raises `InputError` when the images differ.
    """
    return _difference("accuracy_gain", predictions, reference, flips(predictions, reference))


def accuracy_change(predictions: Predictions, before: Predictions) -> Measurement:
    """Return the change of accuracy since the model before, in [-1, 1], with the images behind it and McNemar's p.

    The interval and the exact test are those of `Flips`. Raises `InputError` when the images differ.
    """
    changed = flips(predictions, before)
    measured = _difference("accuracy_change", predictions, before, changed)
    pairs = [f"{name} {lost} lost, {gained} gained" for name, (lost, gained) in list(changed.by_pair.items())[:1]]
    detail = "; ".join([f"{measured.detail} (McNemar p = {changed.p_value:.2g})", *pairs])
    return replace(measured, detail=detail, p_value=changed.p_value, flips=changed)


def right_at_every_pose(found: FirstFailures) -> Measurement:
    """Return the share of images that are right at every pose of a sequence, in [0, 1].

    The interval is Wilson's. The failures are the images that the poses break, the first poses' first.
    """
    right = found.right_everywhere
    broken = np.flatnonzero(~right)
    broken = broken[np.argsort(found.first[broken], kind="stable")]
    detail = f"{len(broken)} images fail at some of {len(found.poses)} poses"
    return _share("right_at_every_pose", int(right.sum()), len(right), detail, broken)


def random_pose_accuracy(correct: np.ndarray) -> Measurement:
    """Return the mean accuracy over each image's own random poses, in [0, 1]; `correct` is (images, poses) bool.

    The interval is Wilson's for as many answers as there are images, since answers about one image go together.
    """
    images, poses = correct.shape
    share = float(correct.mean())
    low, high = proportion_interval(round(share * images), images)
    return Measurement("random_pose_accuracy", share, images, (low, high), detail=f"{poses} poses each")


def worst_of_ten(correct: np.ndarray) -> Measurement:
    """Return the share of images that are right at all of their own ten random poses; `correct` is (images, 10)."""
    if correct.shape[1] != 10:  # noqa: PLR2004  As the name says.
        raise InputError(f"worst of ten: each image has {correct.shape[1]} poses, expected 10")
    always = np.asarray(correct.all(axis=1))
    return _share("worst_of_ten", int(always.sum()), len(always), "", np.flatnonzero(~always))


def unchanged_share(changed: FirstFailures) -> Measurement:
    """Return the share of images whose prediction no pose of a sequence changes, in [0, 1]; the interval is Wilson's.

    The failures are the images that change, in the order of the poses that change them.
    """
    return replace(right_at_every_pose(changed), metric="unchanged_share", detail=f"{len(changed.poses)} poses drawn")


def kept(before: Predictions, after: Predictions) -> Measurement:
    """Return the share of images whose answer stays when something is changed that should not matter, in [0, 1].

    Right or wrong, since `accuracy` counts that. The interval is Wilson's. The failures are the images whose answer
    changes, those that it was right for first, by how sure the new answer is. Raises `InputError` for other images.
    """
    same = _same_answers(before, after)
    right_before = int((before.correct & ~same).sum())
    detail = f"{int((~same).sum())} answers change, {right_before} of them right before"
    sureness = after.confidence_of_errors() + before.correct
    changed = np.flatnonzero(~same)
    failures = changed[np.argsort(-sureness[changed], kind="stable")]
    return _share("kept", int(same.sum()), len(same), detail, failures)


def lost(before: Predictions, after: Predictions) -> Measurement:
    """Return the share of images whose answer goes when what it must rest on is taken away, in [0, 1].

    A model still has to say something: the share of images that it took for that before cannot go. The interval is
    Wilson's. The failures are the images whose answer stays. Raises `InputError` for other images.
    """
    same = _same_answers(before, after)
    commonest = int(np.bincount(after.predicted).argmax())
    share = (after.predicted == commonest).mean()
    detail = f"{share:.0%} are then taken for {after.classes[commonest]}"
    return _share("lost", int((~same).sum()), len(same), detail, np.flatnonzero(same))


def _same_answers(before: Predictions, after: Predictions) -> np.ndarray:
    if not np.array_equal(before.images.positions.numpy(), after.images.positions.numpy()):
        raise InputError(
            f"answers before and after: {len(before.labels)} and {len(after.labels)} images that are not the same"
        )
    return np.asarray(before.predicted == after.predicted)


def breaking_severity(found: Breaking, *, share_broken: float) -> Measurement:
    """Return the severity by which this share of the images that are right as they are fails, in the path's unit.

    The interval is that of the quantile: the severities at the shares 1.96 standard errors away (normal approximation
    to the binomial, Conover 1999, section 3.2).
    """
    n = len(found.severity)
    if not n:
        raise InputError(f"breaking severity: none of the {found.images} images is right as it is, so none can break")
    margin = 1.96 * math.sqrt(share_broken * (1 - share_broken) / n)
    low, high = (found.quantile(min(max(share_broken + side * margin, 0.0), 1.0)) for side in (-1, 1))
    held = int(np.isinf(found.severity).sum())
    return Measurement(
        "breaking_severity",
        found.quantile(share_broken),
        found.images,
        (low, high),
        unit=found.path.unit,
        detail=f"of {n} images right at rest, {held} hold to the limit of {found.path.limit}",
    )


def _difference(metric: str, predictions: Predictions, reference: Predictions, changed: Flips) -> Measurement:
    return Measurement(
        metric,
        changed.net,
        changed.n,
        changed.interval,
        unit="difference",
        detail=f"{len(changed.gained)} images gained, {len(changed.lost)} lost",
        failures=_telling(predictions, ~predictions.correct & reference.correct),
    )


def class_number(predictions: Predictions, name: str) -> int:
    """Return the number of a class; raises `InputError` for one that the data lack."""
    try:
        return predictions.classes.index(name)
    except ValueError:
        raise InputError(f"unknown class {name!r}; the data have {', '.join(predictions.classes)}") from None


def _share(metric: str, right: int, n: int, detail: str, failures: np.ndarray) -> Measurement:
    return Measurement(metric, right / n, n, proportion_interval(right, n), detail=detail, failures=failures)


def _count(metric: str, predictions: Predictions, failures: np.ndarray, detail: str) -> Measurement:
    n, count = len(failures), int(failures.sum())
    low, high = proportion_interval(count, n)
    return Measurement(
        metric,
        count,
        n,
        (low * n, high * n),
        unit="images",
        detail=detail,
        failures=_telling(predictions, failures),
    )


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of a proportion (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _telling(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, wrong answers all, those with the highest confidence first."""
    positions = np.flatnonzero(failures)
    return positions[np.argsort(-predictions.confidence_of_errors()[positions], kind="stable")]


def _worst_pair(predictions: Predictions, failures: np.ndarray) -> str:
    """Name the commonest confusion among the failures, with its share of the true class's images."""
    if not failures.any():
        return ""
    classes = len(predictions.classes)
    pairs = predictions.labels[failures] * classes + predictions.predicted[failures]
    true, taken = divmod(int(np.bincount(pairs).argmax()), classes)
    share = (predictions.labels[failures] * classes + predictions.predicted[failures] == true * classes + taken).sum()
    share = share / (predictions.labels == true).sum()
    return f"worst pair {predictions.classes[true]}→{predictions.classes[taken]} {share:.0%}"
