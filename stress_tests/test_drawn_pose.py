"""Between the poses of a grid there are others; Hypothesis hunts for the worst of them."""

from hypothesis import given, seed, target

from harness.gates import Key
from harness.inference.search import changes
from harness.measures import accuracy, unchanged_share
from harness.perturb import Pose
from harness.perturb.strategies import poses
from harness.plugin import gate

WITHIN = Key(Pose, "any pose within ±{0.degrees:g}°, ±{0.dx:g} px")


@gate("search", metric="accuracy", within=WITHIN)
@seed(0)
@given(pose=poses(max_degrees=10, max_shift_px=2))
def test_accuracy_holds_at_drawn_poses(candidate, probe_images, evidence, gate, pose):
    predictions = candidate.predict(probe_images, pose.clamped(gate.within))
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(probe_images)))
    evidence.show(verdict, predictions)
    target(-verdict.value)
    assert verdict.passed, verdict.explain()


@gate("search", metric="unchanged_share", within=WITHIN)
def test_predictions_stay_at_drawn_poses(candidate, probe_images, evidence, gate):
    changed = changes(candidate.classifier, probe_images, gate.within, seed=0)
    verdict = gate.judge(unchanged_share(changed))
    evidence.show(verdict, changed)
    assert verdict.passed, verdict.explain()
