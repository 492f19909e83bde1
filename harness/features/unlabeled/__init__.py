"""Images without labels: a candidate predicts them as the reference models agree, and as the incumbent."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "unlabeled",
            "Images without labels",
            measures="Predictions of images without labels, against the unanimous reference models and the incumbent.",
            failure="Look at the worst images in the section on images without labels. If they show a defect of the "
            "model, add such images to the data. If they show other pictures, check the pipeline.",
            page="unlabeled",
            area="images without labels",
            damage="harness.features.unlabeled.opening:ANSWERS_MOVED",
            needs_row=True,
            images="harness.features.unlabeled.opening:unlabeled_images",
            before="equivalence",
        ),
    ),
    sections={"harness.features.unlabeled.report:section": "slices"},
    settings={"harness.features.unlabeled.settings:UnlabeledSettings": "Images"},
    rows="harness.features.unlabeled.settings:rows",
    opened="harness.features.unlabeled.opening:with_thresholds",
    differences="harness.features.unlabeled.report:differences",
    record="harness.features.unlabeled.report:Disagreements",
    record_key="unlabeled",
)
