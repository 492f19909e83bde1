"""Batch norms: running statistics of a network compared with those of its activations on test images."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "batch_norm",
            "Batch-norm statistics",
            measures="Distance of a network's running statistics from those of its activations on test images, "
            "clean or augmented as in training.",
            failure="Too far: the weights were changed, the statistics are stale, or test images come from elsewhere. "
            "Too near: the statistics were made from few images or without augmentation.",
            page="behaviours/batch-norm",
            area="batch norms",
            explains=True,
            cause="harness.features.batch_norm.cause:cause_of_batch_norms",
            starter_checks="harness.features.batch_norm.family:starter_checks",
            needs_row=True,
            before="rotation",
        ),
    ),
    metrics=(
        "harness.features.batch_norm.metrics:BATCH_NORM_DISTANCE",
        "harness.features.batch_norm.metrics:BATCH_NORM_DISTANCE_MINIMUM",
        "harness.features.batch_norm.metrics:BATCH_NORM_MISFIT",
    ),
    self_checks={
        "stale-statistics": "harness.features.batch_norm.family:stale_statistics_are_noticed"
    },
)
