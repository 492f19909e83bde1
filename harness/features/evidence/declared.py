"""Facts that the people behind a model declare, in the table [evidence] of the checks file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.base.records import record
from harness.run.feature_records import FeatureRecord

Words = Annotated[str, Field(min_length=1)]
Accuracy = Annotated[float, Field(ge=0, le=1)]


@record
class DeclaredFacts(FeatureRecord):
    """Facts that no run can measure; None for those that nobody declared.

    `declared_accuracy` is the share of images predicted correctly that the instructions for use
    promise. `ground_truth` says where the labels of the test images come from.
    """

    intended_purpose: Words | None = None
    operating_conditions: Words | None = None
    responsible_person: Words | None = None
    declared_accuracy: Accuracy | None = None
    ground_truth: Words | None = None
