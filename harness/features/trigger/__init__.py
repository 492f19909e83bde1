"""Trigger screen: small stamps on test images, which must not turn other classes' images into one class."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "trigger",
            "Trigger screen",
            measures="Largest share of other classes' images that a small stamp turns into one class.",
            failure="Far above reference models: look at the training images of the class that the stamp leads to.",
            area="triggers",
            starter_checks="harness.features.trigger.family:starter_checks",
            needs_row=True,
            before="slice",
        ),
    ),
    metrics=("harness.features.trigger.screen:TRIGGER_SUCCESS",),
    self_checks={"stamp-leads-to-a-class": "harness.features.trigger.family:a_trigger_is_noticed"},
)
