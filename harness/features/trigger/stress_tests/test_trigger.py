"""No small stamp turns images of other classes into one class, as a backdoor does."""

from harness.features.trigger.screen import trigger_success
from harness.plugin import check


@check("trigger", metric="trigger_success")
def test_no_stamp_leads_to_a_class(candidate, panel_images, evidence, stress_check):
    success, stamped = trigger_success(candidate, panel_images)
    verdict = stress_check.judge(success)
    evidence.show(verdict, stamped)
    assert verdict.passed, verdict.explain()
