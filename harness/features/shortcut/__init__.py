"""Shortcuts: marks that training images of one class carried by accident, and that a network learned instead."""

from harness.base.features import Command, Family, Feature

FEATURE = Feature(
    commands={
        "shortcuts": Command(
            "Inspect",
            "harness.features.shortcut.command",
            "Find simple properties that predict a class in training images alone, such as a mark.",
        )
    },
    families=(
        Family(
            "shortcut",
            "Shortcuts",
            measures="Largest excess, over reference models, of what a mark adds to a class's log probability on "
            "images of other classes. Marks are bars, frames, rulers, squares, texts, watermarks and tints.",
            failure="The candidate takes the mark for the class. Look for it in the training images of this class. "
            "Remove it, or add it to images of all classes.",
            area="classes",
            starter_checks="harness.features.shortcut.family:starter_checks",
            needs_row=True,
            before="slice",
        ),
    ),
    metrics=("harness.features.shortcut.metrics:SHORTCUT_PULL",),
    self_checks={"mark-leads-to-a-class": "harness.features.shortcut.family:a_shortcut_is_noticed"},
)
