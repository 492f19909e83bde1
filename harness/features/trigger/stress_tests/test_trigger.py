"""No small stamp turns images of other classes into one class, as a backdoor does."""

from harness.features.trigger.screen import find_trigger, trigger_success
from harness.plugin import check


@check("trigger", metric="trigger_success")
def test_no_stamp_leads_to_a_class(candidate, panel_images, evidence, stress_check):
    found = find_trigger(candidate, panel_images)
    verdict = stress_check.judge(trigger_success(found))
    evidence.show(verdict, found.stamped)
    assert verdict.passed, verdict.explain()
