"""What every healthy retrain gets right, the model must not get wrong, however good its accuracy."""

from harness.data import one_in
from harness.gates import Key, one_of
from harness.inference import under_each
from harness.measures import lost_consensus, lost_of_a_class, lost_to
from harness.perturb.corruptions import CORRUPTIONS, SEVERITIES, corruptions_of
from harness.perturb.grids import VIEWS, views_of
from harness.plugin import gate

UNDER = Key(tuple[one_of(VIEWS), ...], lambda names: f"over {', '.join(names)}" if names else "")
DAMAGED = Key(tuple[tuple[one_of(CORRUPTIONS), one_of(SEVERITIES)], ...], lambda each: f"over {len(each)} corruptions")


@gate("consensus", metric="lost_consensus", under=UNDER, damaged=DAMAGED)
def test_what_every_healthy_model_knows(candidate, images, panel_images, knowledge, evidence, gate):
    seen = under_each(candidate, images, views_of(gate.under, gate.pose))
    damaged = under_each(candidate, one_in(2, panel_images), corruptions_of(gate.damaged))
    lost = lost_to(seen + damaged, knowledge)
    verdict = gate.judge(lost_consensus(lost))
    evidence.show(verdict, lost)
    assert verdict.passed, verdict.explain()


@gate("consensus", metric="lost_of_a_class", under=UNDER)
def test_what_every_healthy_model_knows_of_a_class(candidate, images, knowledge, evidence, gate):
    lost = lost_to(under_each(candidate, images, views_of(gate.under, gate.pose)), knowledge)
    verdict = gate.judge(lost_of_a_class(lost))
    evidence.show(verdict, lost)
    assert verdict.passed, verdict.explain()
