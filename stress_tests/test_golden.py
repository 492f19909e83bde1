"""What was wrong once, and must never be again, is right."""

from harness.gates import Key
from harness.measures import golden_right
from harness.plugin import gate


@gate("golden", image=Key(int, ""), because=Key(str))
def test_golden_image_is_right(candidate, golden_images, evidence, gate):
    predictions = candidate.predict(golden_images)
    verdict = gate.judge(golden_right(predictions, gate.image, because=gate.because))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
