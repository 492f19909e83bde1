"""Fingerprint: statistics of weights tell whether a network was trained by the recipe of the reference models."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "fingerprint",
            "Training recipe",
            measures="Distance of the candidate's weight statistics from those of the reference models: norms, "
            "effective ranks, scales and running variances. No image counts.",
            failure="The candidate was trained by another recipe than the reference models, so their thresholds may "
            "not hold. Look at learning rate, weight decay, loss, augmentation, training images and frozen layers. If "
            'you changed the recipe on purpose, calibrate on models of the new one. Until then, set recipe = "open" in '
            "[gate].",
            area="training recipe",
            explains=True,
            starter_checks="harness.features.fingerprint.family:starter_checks",
            needs_row=True,
            before="rotation",
        ),
    ),
    metrics=("harness.features.fingerprint.metrics:WEIGHT_DISTANCE",),
    settings={"harness.features.fingerprint.settings:RecipeSettings": "Scope"},
    opened="harness.features.fingerprint.family:with_recipe",
    notes=("harness.features.fingerprint.report:recipe_note",),
    self_checks={"other-recipe": "harness.features.fingerprint.family:another_recipe_is_noticed"},
)
