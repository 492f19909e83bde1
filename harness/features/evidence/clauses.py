"""Clauses on testing, each with our paraphrase, and with what a record can hold for it.

The numbers are those of Regulation (EU) 2024/1689, ISO/IEC TS 4213:2022, ISO/IEC TR 24029-1:2021
and ISO/IEC 24029-2:2023. No text of theirs is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

ACT = "EU AI Act"
TS_4213 = "ISO/IEC TS 4213:2022"
TR_24029_1 = "ISO/IEC TR 24029-1:2021"
ISO_24029_2 = "ISO/IEC 24029-2:2023"
DECLARED_ACCURACY = "evidence.declared_accuracy"
"""The field of `stress.json` with the accuracy that is compared with the measured one."""


@dataclass(frozen=True)
class Clause:
    """A clause, and what stands for it in a record.

    `families` are those whose checks of the candidate test what the clause asks for. `fields` are
    paths into `stress.json`, with dots. The record covers the clause only if each family has a
    judged check and each field is known. `gap` names what no record of a run can show; a clause
    with a gap is covered in part at best, and one without families and fields not at all.
    """

    source: str
    number: str
    paraphrase: str
    families: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    gap: str = ""


_DATA = ("data.name", "data.split", "data.sha256", "data.n", "data.classes")
_GEOMETRY = ("rotation", "shift", "flip", "pose", "search")

_OF_THE_ACT = (
    Clause(
        ACT,
        "Annex IV, 1(a)",
        "State the intended purpose, the provider and the version of the system.",
        fields=("evidence.intended_purpose",),
        gap="the provider, and the version of the system around the model",
    ),
    Clause(
        ACT,
        "Annex IV, 1(e)",
        "Describe the hardware that the system is meant to run on.",
        gap="the hardware in use; the record has the machine of the test",
    ),
    Clause(
        ACT,
        "Annex IV, 2(d)",
        "Describe the training data: origin, selection, labeling and cleaning.",
        gap="all of it; a run knows no training images",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): procedures",
        "Describe how the system was validated and tested.",
        fields=("command", "profile", "protocol", "checks_sha256", "self_checks", "versions"),
        gap="validation during the training, and tests outside of this run",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): test data",
        "Describe the test data and their main characteristics.",
        fields=_DATA,
        gap="how the images were chosen, and which conditions of use they represent",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): accuracy",
        "Give the metrics of accuracy and their values.",
        families=("clean", "class", "confidence"),
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): robustness",
        "Give the metrics of robustness and their values.",
        families=("rotation", "shift", "corruption"),
        gap="changes that no check makes; adversarial robustness",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): discrimination",
        "Give the metrics of impacts that may discriminate against people.",
        families=("slice",),
        gap="fairness beyond the groups that the project gives",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): logs",
        "Keep the logs of the tests.",
        fields=("run", "command", "checks"),
        gap="logs of earlier tests, and what the terminal showed",
    ),
    Clause(
        ACT,
        "Annex IV, 2(g): signature",
        "Date the test reports, and have responsible persons sign them.",
        fields=("day", "evidence.responsible_person"),
        gap="the signature: the command stress-harness attest writes a statement to sign",
    ),
    Clause(
        ACT,
        "Annex IV, 2(h)",
        "Describe the measures of cybersecurity.",
        gap="cybersecurity",
    ),
    Clause(
        ACT,
        "Annex IV, 3",
        "Describe capabilities and limits, with the accuracy for groups of people.",
        families=("slice",),
        gap="unintended outcomes, and groups that the project does not give",
    ),
    Clause(
        ACT,
        "Annex IV, 4",
        "Explain why the metrics fit the system.",
        gap="the reasons for these metrics",
    ),
    Clause(
        ACT,
        "Annex IV, 9",
        "Describe how the system is monitored after its release.",
        gap="monitoring in use",
    ),
    Clause(
        ACT,
        "Article 9(8)",
        "Test against metrics and probabilistic thresholds that were fixed before.",
        fields=("checks_sha256", "provenance"),
        gap="that the thresholds are older than the model, and fit the intended purpose",
    ),
    Clause(
        ACT,
        "Article 10(2)(f)",
        "Examine the data for biases that may harm people.",
        gap="fairness: biases of the data towards people",
    ),
    Clause(
        ACT,
        "Article 10(3)",
        "Use data that are relevant and represent the conditions of use.",
        gap="whether the images represent the conditions of use",
    ),
    Clause(
        ACT,
        "Article 15(1)",
        "Perform consistently over the whole life of the system.",
        gap="time: the record is of one run on one day",
    ),
    Clause(
        ACT,
        "Article 15(3)",
        "Declare the accuracy and its metrics in the instructions for use.",
        fields=(DECLARED_ACCURACY,),
        gap="the instructions for use themselves",
    ),
    Clause(
        ACT,
        "Article 15(4): faults",
        "Withstand errors, faults and inconsistencies of inputs and surroundings.",
        families=("corruption", "skew", "unknown"),
        gap="redundancy, fallbacks, and faults outside of the model",
    ),
    Clause(
        ACT,
        "Article 15(4): feedback",
        "Keep biased outputs from becoming inputs of a system that learns in use.",
        gap="feedback loops",
    ),
    Clause(
        ACT,
        "Article 15(5): adversarial examples",
        "Withstand inputs that are made to mislead the model.",
        gap="adversarial robustness: no check searches for perturbations of an attacker",
    ),
    Clause(
        ACT,
        "Article 15(5): poisoning",
        "Withstand manipulated training data and manipulated components.",
        families=("trigger",),
        gap="poisoning without a trigger of the kinds that the check draws",
    ),
    Clause(
        ACT,
        "Article 15(5): confidentiality",
        "Withstand attacks on the confidentiality of data and model.",
        gap="confidentiality attacks, and all other cybersecurity",
    ),
)

_OF_TS_4213 = (
    Clause(
        TS_4213,
        "5.3.2",
        "Control how well the data represent the use, and their biases.",
        families=("slice",),
        gap="whether images and groups represent the use",
    ),
    Clause(
        TS_4213,
        "5.3.3",
        "Describe the preprocessing, and treat all compared models alike.",
        fields=("data.pipeline", "data.border"),
        gap="what happened to the files before the harness read them",
    ),
    Clause(
        TS_4213,
        "5.3.4",
        "Describe the training data.",
        gap="the training data; a run knows no training images",
    ),
    Clause(
        TS_4213,
        "5.3.5",
        "Keep test and validation data apart from the training, and describe them.",
        fields=(*_DATA, "attempt"),
        gap="that no test image was used for training or selection",
    ),
    Clause(
        TS_4213,
        "5.3.6",
        "Cross-validate where data are few.",
        gap="cross-validation: a run measures one model on one split",
    ),
    Clause(
        TS_4213,
        "5.3.7",
        "Limit leakage of test data into the training.",
        gap="leakage: the command stress-harness leakage compares test and training images",
    ),
    Clause(
        TS_4213,
        "5.3.8",
        "Limit channel effects: cues that follow the recording and not the object.",
        families=("shortcut",),
        gap="cues other than the marks that the checks draw",
    ),
    Clause(
        TS_4213,
        "5.3.9",
        "Say where the ground truth comes from and how good it is.",
        fields=("evidence.ground_truth",),
        gap="the quality of the labels, which nobody measured",
    ),
    Clause(
        TS_4213,
        "5.3.10",
        "Describe algorithm, hyperparameters and parameters of the model.",
        fields=("candidate.architecture", "candidate.sha256"),
        gap="the hyperparameters of the training, which the checkpoint may have",
    ),
    Clause(
        TS_4213,
        "5.3.11",
        "Describe the environment of the evaluation.",
        fields=(
            "environment.system",
            "environment.processor",
            "environment.cores",
            "environment.memory_bytes",
            "environment.libraries",
            "environment.seeds",
            "environment.commit",
            "versions",
        ),
    ),
    Clause(
        TS_4213,
        "5.3.12",
        "Describe accelerators, and what acceleration changes in the results.",
        fields=(
            "environment.accelerator",
            "environment.precision",
            "environment.instructions",
        ),
        gap="how far results on another device differ",
    ),
    Clause(
        TS_4213,
        "5.3.13",
        "Compare with appropriate baselines.",
        families=("gain", "regression"),
        fields=("baseline.sha256", "incumbent.sha256"),
        gap="that these baselines are the appropriate ones",
    ),
    Clause(
        TS_4213,
        "5.3.14",
        "Give the context in which the performance holds.",
        fields=("evidence.intended_purpose", "evidence.operating_conditions"),
        gap="that the test images show this context",
    ),
    Clause(
        TS_4213,
        "6",
        "Compute accuracy and confusion matrix of several classes.",
        families=("clean", "class", "pairs"),
        fields=("overview.models",),
        gap="further measures of this clause, such as the F1 score",
    ),
    Clause(
        TS_4213,
        "7",
        "Test whether differences between classifiers are significant.",
        families=("regression", "flips"),
        gap="differences from models that are no part of the run",
    ),
)

_OF_24029 = (
    Clause(
        TR_24029_1,
        "5",
        "Assess robustness by statistics of the performance on test data.",
        families=(*_GEOMETRY, "corruption"),
        gap="changes that no check makes",
    ),
    Clause(
        TR_24029_1,
        "6",
        "Assess robustness by formal methods.",
        gap="formal methods: grids and random poses prove nothing between their points",
    ),
    Clause(
        TR_24029_1,
        "7",
        "Assess robustness empirically, for example in field trials.",
        gap="field trials, and other tests in use",
    ),
    Clause(
        ISO_24029_2,
        "whole document",
        "Prove properties such as stability in a domain by formal methods.",
        gap="formal proofs; the harness measures and proves nothing",
    ),
)

CLAUSES = (*_OF_THE_ACT, *_OF_TS_4213, *_OF_24029)
"""All clauses, in the order of their documents."""
