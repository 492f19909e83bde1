"""Checks files are read strictly, and a check is a plain comparison that says what it compared."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.base.records import as_json, read_json
from harness.checks import Check, ChecksError, Threshold, Verdict, read_checks
from harness.checks.conditions import Conditions
from harness.checks.wording import missed as missed_by
from harness.data import load_fashion_mnist
from harness.measures import METRICS, Measurement, Metric, Unit
from harness.measures.metric import Sampling
from harness.perturb import Pose

HEAD = """
schema = 2
protocol = 1
[data]
name = "toy"
split = "test"
sha256 = "abc"
n = 100
"""
ROW = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
"""
OWN = Path(__file__).parents[2] / "stress_tests" / "checks.toml"


def checks_file(folder: Path, content: str) -> Path:
    path = folder / "checks.toml"
    path.write_text(content, encoding="utf-8")
    return path


def share(
    value: float, *, n: int = 10_000, interval=(0.804, 0.82), metric: str = "accuracy", **facts
) -> Measurement:
    return Measurement(METRICS[metric], value, n, interval, **facts)


def count(value: float, *, n: int = 10_000, interval=(5.0, 20.0), **facts) -> Measurement:
    return Measurement(METRICS["pair_failures"], value, n, interval, **facts)


def test_a_row_is_read_as_written(tmp_path):
    path = checks_file(
        tmp_path,
        HEAD
        + """
[recipe]
about = "someone's"
[[check]]
id = "pair-a-b.ccw-010"
family = "pairs"
metric = "pair_failures"
direction = "at_most"
role = "incumbent"
pose = { degrees = 10, dx = -1.5 }
class = "A"
pair = ["A", "B"]
confidence = 0.9
hand = { threshold = 12, reason = "agreed" }
panel = { threshold = 11.5, mean = 8.0, std = 1.25, reference_models = 20 }
""",
    )
    read = read_checks(path)
    assert read.checks == (
        Check(
            id="pair-a-b.ccw-010",
            family="pairs",
            metric="pair_failures",
            direction="at_most",
            role="incumbent",
            pose=Pose(10.0, -1.5),
            class_name="A",
            keys={"pair": ["A", "B"], "confidence": 0.9},
            hand=Threshold(12, "agreed"),
            panel=Threshold(11.5, mean=8.0, std=1.25, reference_models=20),
        ),
    )
    assert (read.path, read.recipe, read.data.name, read.data.n) == (
        path,
        {"about": "someone's"},
        "toy",
        100,
    )
    assert len(read.sha256) == 64
    path = checks_file(
        tmp_path,
        HEAD
        + """
"""
        + ROW
        + """
significance = 0.001
informational = "reference models differ"
panel.threshold = 0.9
panel.mean = 0.91
panel.std = 0.002
panel.k = 2.86
panel.reference_models = 20
panel.minimum_detectable_drop = 0.01
panel.date = "2026-11-25"
""",
    )
    read = read_checks(path)
    (check,) = read.checks
    assert check.panel == Threshold(
        0.9, "", 0.91, 0.002, 20, k=2.86, minimum_detectable_drop=0.01, date="2026-11-25"
    )
    assert (check.significance, check.informational) == (0.001, "reference models differ")
    assert (check.binding, check.reference) == (None, check.panel)


MALFORMED_ROWS = {
    "share = 0.5": "unknown key 'share'",
    "class = 3": r"class_name is 3, expected text",
    'direction = "above"': r"direction is 'above', expected 'at_least' or 'at_most'",
    'role = "reference"': r"role is 'reference', expected one of candidate, baseline, incumbent",
    "pose = 3": "pose: expected a table, found 3",
    "pose = { angle = 3 }": "pose: unknown key 'angle'; known are degrees, dx, dy",
    'pose = { degrees = "3" }': "pose: degrees is '3', expected a number",
    "pose = { dx = true }": "pose: dx is True, expected a number",
    "pose = { degrees = nan }": "pose: degrees is nan, expected a finite number",
    "pose = { dy = inf }": "pose: dy is inf, expected a finite number",
    "hand = 0.9": r"hand: expected a table, found 0\.9",
    "hand = {}": "hand: key 'threshold' is missing",
    "hand = { threshold = 1.2 }": "threshold 1.2 is outside the range of accuracy, 0.0 to 1.0",
    "panel = { threshold = -0.1 }": "threshold -0.1 is outside the range of accuracy",
    "hand = { threshold = true }": "hand: threshold is True, expected a number",
    'hand = { threshold = "0.9" }': "hand: threshold is '0.9', expected a number",
    "hand = { threshold = nan }": "hand: threshold is nan, expected a finite number",
    "hand = { threshold = 0.9, why = 3 }": (
        "hand: unknown key 'why'; known are conversions, .*.*reason, .*std"
    ),
    "hand = { threshold = 0.9, reason = 3 }": "hand: reason is 3, expected text",
    "panel = { threshold = 0.9, reference_models = 2.5 }": (
        "panel: reference_models is 2.5, expected a whole number"
    ),
    'panel = { threshold = 0.9, k = "3" }': "panel: k is '3', expected a number",
    "panel = { threshold = 0.9, minimum_detectable_drop = true }": (
        "panel: minimum_detectable_drop is True, expected"
    ),
    "panel = { threshold = 0.9, std = nan }": "panel: std is nan, expected a finite number",
    "panel = { threshold = 0.9, date = 2026-11-25 }": (
        "found 2026-11-25, a date.*; expected text, numbers,"
    ),
    "informational = true": "informational is True, expected text",
    "significance = 1.01": "significance is 1.01, expected a number of at most 1",
    "significance = -0.01": "significance is -0.01, expected a number of at least 0",
    'significance = "low"': "significance is 'low', expected a number",
}
"""A line of a row, and what the refusal says of it."""


@pytest.mark.parametrize(("line", "message"), MALFORMED_ROWS.items(), ids=MALFORMED_ROWS)
def test_a_malformed_row_is_refused_with_file_and_row(tmp_path, line, message):
    path = checks_file(tmp_path, HEAD + ROW.replace("clean", "good") + ROW + line + "\n")
    with pytest.raises(ChecksError, match=rf"checks\.toml: check 2 \('clean'\): .*({message})"):
        read_checks(path)


@pytest.mark.parametrize(
    "name",
    [
        "Clean",
        "klar-ä",
        "a b",
        "-first",
        "",
        "a_b",
        "a/b",
        "a[b]",
        "clean\\n",
        "a\\u001b[31m",
        "<b>",
        "x" * 10_000,
    ],
)
def test_an_id_that_is_no_stable_key_is_refused(tmp_path, name):
    path = checks_file(tmp_path, HEAD + ROW.replace('"clean"', f'"{name}"', 1))
    message = r"check 1 \('.*'\): id '.*' must be of lower-case ASCII letters, digits"
    with pytest.raises(ChecksError, match=message) as told:
        read_checks(path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 1000


def test_an_id_given_twice_is_refused_with_both_rows(tmp_path):
    path = checks_file(tmp_path, HEAD + ROW + ROW.replace("clean", "other") + ROW)
    with pytest.raises(
        ChecksError, match=r"checks\.toml: check 3 \('clean'\): check 1 has this id already"
    ):
        read_checks(path)
    path = tmp_path / "checks.toml"
    path.write_bytes(HEAD.encode() + b"# caf\xe9\n")
    with pytest.raises(ChecksError, match=r"checks\.toml: not valid TOML: .*utf-8"):
        read_checks(path)
    for key in ("id", "family", "metric"):
        row = re.sub(rf"{key} = .*", f"{key} = 3", ROW)
        with pytest.raises(
            ChecksError, match=rf"checks\.toml: check 1.*: {key} is 3, expected text"
        ):
            read_checks(checks_file(tmp_path, HEAD + row))


@pytest.mark.parametrize(
    ("metric", "threshold", "allowed"),
    [
        ("accuracy", 0.01, True),
        ("accuracy", 1, True),
        ("accuracy_gain", -0.99, True),
        ("accuracy_gain", -1.01, False),
        ("accuracy_gain", 1.01, False),
        ("of_my_own", -7.5, True),
        ("brier_score", 1.99, True),
        ("brier_score", 2.01, False),
    ],
)
def test_a_threshold_lies_in_the_range_of_its_metric(tmp_path, metric, threshold, allowed):
    row = ROW.replace("accuracy", metric) + f"hand = {{ threshold = {threshold} }}\n"
    path = checks_file(tmp_path, HEAD + row)
    if allowed:
        assert read_checks(path).checks[0].hand == Threshold(threshold)
    else:
        with pytest.raises(
            ChecksError, match=rf"toml: check 1 \('clean'\): threshold .* the range of {metric}"
        ):
            read_checks(path)


@pytest.mark.parametrize(
    ("metric", "keys", "message"),
    [
        (
            "accuracy",
            "hand = { threshold = 0 }",
            "no accuracy is beyond 0, so the check cannot fail",
        ),
        ("accuracy_change", "hand = { threshold = -1.0 }", "no accuracy_change is beyond -1.0"),
        (
            "dead_maps",
            'direction = "at_most"\nhand = { threshold = 1 }',
            "no dead_maps is beyond 1",
        ),
        (
            "pair_failures",
            'direction = "at_most"\nhand = { threshold = 100 }',
            "no pair_failures is beyond 100",
        ),
        ("accuracy_change", "significance = 0", "significance is 0, so the check cannot fail"),
    ],
    ids=["threshold-of-0", "change-of-minus-1", "share-of-1", "all-images", "significance-of-0"],
)
def test_a_gate_that_could_not_fail_is_refused(tmp_path, metric, keys, message):
    path = checks_file(tmp_path, f"{HEAD}{ROW.replace('accuracy', metric)}{keys}\n")
    with pytest.raises(ChecksError) as refusal:
        read_checks(path)
    assert f"{path}: check 1 ('clean'): {message}" in str(refusal.value)


@pytest.mark.parametrize(
    ("metric", "better", "direction", "wrong"),
    [
        *((metric, "less", "at_most", "at_least") for metric in ("brier_score", "pair_failures")),
        ("accuracy", "more", "at_least", "at_most"),
    ],
)
def test_a_direction_is_that_of_the_shipped_metric(tmp_path, metric, better, direction, wrong):
    row = ROW.replace("accuracy", metric)
    for written in ("", f'direction = "{direction}"\n'):
        assert (
            read_checks(checks_file(tmp_path, HEAD + row + written)).checks[0].direction
            == direction
        )
    with pytest.raises(ChecksError) as refusal:
        read_checks(checks_file(tmp_path, f'{HEAD}{row}direction = "{wrong}"\n'))
    said = f'for {metric}, {better} is better; write direction = "{direction}", or leave it out'
    assert f"checks.toml: check 1 ('clean'): {said}" in str(refusal.value)


BLUR = Metric("blur_cost", Unit.FACTOR, better="less")
"""A user's own metric; less is better."""


@pytest.mark.parametrize(("value", "status"), [(1.5, "pass"), (1.6, "fail")])
@pytest.mark.parametrize("direction", [None, "at_most"], ids=["left-out", "written"])
def test_a_metric_of_ones_own_of_which_less_is_better_has_a_ceiling(direction, value, status):
    check = Check("blur", "blur", "blur_cost", direction, hand=Threshold(1.5))
    verdict = check.judge(Measurement(BLUR, value, 100, (1.0, 2.0)))
    assert verdict.status == status
    assert verdict.as_json()["direction"] == "at_most"
    assert ("> threshold 1.5000" in verdict.explain()) == (status == "fail")


def test_what_an_own_metric_or_nan_measured_is_refused_when_judged():
    check = Check("blur", "blur", "blur_cost", "at_least", hand=Threshold(1.5))
    with pytest.raises(
        ChecksError,
        match=r"check blur: for blur_cost, less is better; write direction = \"at_most\"",
    ):
        check.judge(Measurement(BLUR, 1.2, 100, (1.0, 2.0)))
    for direction in ("at_least", "at_most"):
        check = Check("clean", "clean", "accuracy", direction=direction, hand=Threshold(0.5))
        with pytest.raises(
            ChecksError, match="check clean: the test measured 'accuracy' as NaN, expected a number"
        ):
            check.judge(share(math.nan))


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (-0.1, "threshold -0.1 is outside the range of blur_share, 0.0 to 1.0"),
        (1.0, "no blur_share is beyond 1.0"),
    ],
)
def test_an_impossible_threshold_of_an_own_metric_is_refused_when_judged(threshold, message):
    own = Metric("blur_share", Unit.SHARE, better="less")
    with pytest.raises(ChecksError, match=f"check blur: {message}"):
        Check("blur", "blur", "blur_share", hand=Threshold(threshold)).judge(
            Measurement(own, 0.2, 100, (0.1, 0.3))
        )


MALFORMED_FILES = [
    ("schema = ", "not valid TOML: "),
    (HEAD + HEAD, "not valid TOML: "),
    (HEAD.replace("schema = 2", "schema = 3"), "schema 3, and this version reads schema 2"),
    (HEAD.replace("schema = 2", "schema = true"), "schema is True, expected a whole number"),
    (
        HEAD.replace("protocol = 1", "protocol = 3"),
        "protocol is 3, this version works with protocol 1",
    ),
    (HEAD.replace("schema = 2", ""), "key 'schema' is missing"),
    ("schema = 2\nprotocol = 1\n", "key 'data' is missing"),
    ("schema = 2\nprotocol = 1\ndata = 3\n", "data: expected a table, found 3"),
    (HEAD.replace('split = "test"', ""), "data: key 'split' is missing"),
    (HEAD.replace("n = 100", 'n = "100"'), "data: n is '100', expected a whole number"),
    (
        HEAD + "m = 3\n",
        "data: unknown key 'm'; known are augmentation, border, classes, groups_sha256, n, name,",
    ),
    (
        "checks = 3\n" + HEAD,
        "unknown key 'checks'; known are check, data, gate, protocol, recipe, schema",
    ),
    (HEAD + '[check]\nid = "clean"\n', r"check must be an array of tables, written \[\[check\]\]"),
    ("check = [3]\n" + HEAD, "check 1: expected a table, found 3"),
    ("recipe = 3\n" + HEAD, "recipe: expected a table, found 3"),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED_FILES)
def test_a_malformed_file_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(ChecksError, match=rf"checks\.toml: .*({message})"):
        read_checks(checks_file(tmp_path, content))


@pytest.mark.parametrize("name", ["absent.toml", "."], ids=["missing", "folder"])
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(tmp_path, name):
    with pytest.raises(
        ChecksError, match=r"cannot be read \(.+\); name a checks file with --checks"
    ):
        read_checks(tmp_path / name)


def test_the_checks_of_this_repository_are_in_order_and_each_has_its_test():
    checks = read_checks(OWN).checks
    ids = [check.id for check in checks]
    assert len(ids) == OWN.read_text().count("[[check]]") > 50
    assert len(set(ids)) == len(ids)
    assert all(name.isascii() and name == name.lower() for name in ids)
    tests = [
        *OWN.parent.glob("test_*.py"),
        *Path(harness.__file__).parent.glob("features/*/stress_tests/test_*.py"),
    ]
    sources = "".join(path.read_text() for path in tests)
    families = {check.family for check in read_checks(OWN).checks}
    # Rows of groups that these data lack, and of a model that an artifact was made from. Images
    # of no class and differences of classes have rows where somebody wants them.
    of_others = {"slice", "equivalence", "unknown", "class-difference", "golden", "unlabeled"}
    assert set(re.findall(r'@check\("([^"]+)"', sources)) == families | of_others
    images, data = load_fashion_mnist("test"), read_checks(OWN).data
    assert (data.name, data.split, data.n, data.sha256) == (
        "fashion-mnist",
        "test",
        len(images),
        images.sha256,
    )


def test_reading_checks_needs_no_torch():
    script = (
        "import sys; from pathlib import Path; from harness.checks import read_checks\n"
        f"assert read_checks(Path({str(OWN)!r})).checks\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


SAMPLE = {"conditions": Conditions(share=0.2)}
"""Measured on 2,000 of 10,000 images: the model has the benefit of the interval, and limits on
counts shrink.
"""
JUDGED = [
    *(
        ("accuracy", value, {"panel": Threshold(0.85)}, 0.85, value >= 0.85)
        for value in (0.85, 0.8501, 0.8499)
    ),
    *(
        ("calibration_error", each, {"panel": Threshold(0.85)}, 0.85, each <= 0.85)
        for each in (0.85, 0.8499, 0.8501)
    ),
    *(
        ("pair_failures", value, {"panel": Threshold(12.5)}, 12.5, value < 13)
        for value in (12, 13, 0)
    ),
    *(
        ("accuracy", 0.812, SAMPLE | {"panel": Threshold(each)}, each, each == 0.82)
        for each in (0.82, 0.8201)
    ),
    *(
        ("calibration_error", 0.812, SAMPLE | {"panel": Threshold(x)}, x, x == 0.804)
        for x in (0.804, 0.8039)
    ),
    *(
        ("pair_failures", 9, SAMPLE | {"panel": Threshold(x)}, x * 0.2, x > 24.9)
        for x in (3_000, 40, 25, 24.9)
    ),
    ("pair_failures", 12, {"panel": Threshold(10, n=10_000)}, 10, False),
    ("pair_failures", 12, {"panel": Threshold(10, n=8_000)}, 12.5, True),
    ("pair_failures", 14, {"panel": Threshold(10, n=8_000)}, 12.5, True),
    ("pair_failures", 14, SAMPLE | {"panel": Threshold(10, n=2_000)}, 10, True),
]
"""Metric and value, what the check has, the limit that counts, and whether it passes."""


@pytest.mark.parametrize(("metric", "value", "facts", "limit", "passes"), JUDGED)
def test_a_threshold_is_kept_at_its_value_and_broken_just_beyond(
    metric, value, facts, limit, passes
):
    n, interval = (
        2_000 if "conditions" in facts else 10_000,
        (5.0, 16.0) if metric == "pair_failures" else (0.804, 0.82),
    )
    verdict = Check("r", "r", metric, **facts).judge(
        Measurement(METRICS[metric], value, n, interval)
    )
    assert (verdict.status, verdict.passed) == ("pass" if passes else "fail", passes)
    assert (verdict.value, verdict.threshold) == (value, pytest.approx(limit))
    assert (verdict.n, verdict.interval) == (n, interval)


@pytest.mark.parametrize(
    ("hand", "panel", "limit", "provenance"),
    [
        (Threshold(0.9), Threshold(0.8), 0.9, "hand"),
        (Threshold(0.7), Threshold(0.8), 0.7, "hand"),
        (None, Threshold(0.8), 0.8, "panel"),
        (Threshold(0.0), Threshold(-0.1), 0.0, "hand"),
        (None, None, None, None),
    ],
    ids=["stricter-hand", "laxer-hand", "panel-only", "hand-of-zero", "none"],
)
def test_a_hand_threshold_wins_over_the_panels(hand, panel, limit, provenance):
    verdict = Check("gain", "gain", "accuracy_gain", hand=hand, panel=panel).judge(
        share(0.85, metric="accuracy_gain")
    )
    assert verdict.threshold == limit
    assert verdict.as_json()["threshold"] == limit
    assert verdict.as_json()["provenance"] == provenance


@pytest.mark.parametrize(
    ("metric", "value", "other", "worse"),
    [
        ("accuracy", 0.8, 0.9, True),
        ("accuracy", 0.9, 0.8, False),
        ("accuracy", 0.8, 0.8, False),
        ("calibration_error", 0.2, 0.1, True),
        ("calibration_error", 0.1, 0.2, False),
        ("calibration_error", 0.1, 0.1, False),
    ],
)
def test_of_two_verdicts_the_one_farther_on_the_bad_side_is_worse(metric, value, other, worse):
    check = Check("clean", "clean", metric)
    one, another = (check.judge(share(each, metric=metric)) for each in (value, other))
    assert one.outranks(another) == worse
    assert not one.outranks(check.unjudged("error", "it raised"))
    assert check.unjudged("error", "it raised").outranks(one)


def test_a_baseline_that_fails_is_an_error_and_another_metric_is_refused():
    check = Check("baseline-clean", "baseline", "accuracy", role="baseline", hand=Threshold(0.9))
    verdict = check.judge(share(0.812))
    assert (verdict.status, verdict.passed) == ("error", False)
    assert {
        replace(check, role=role).judge(share(0.812)).status for role in ("candidate", "incumbent")
    } == {"fail"}
    assert "so no model can be compared with it" in verdict.explain()
    assert check.judge(share(0.95)).status == "pass"
    check = Check("clean", "clean", "accuracy", hand=Threshold(0.9))
    with pytest.raises(
        ChecksError, match=r"check clean: .* 'accuracy', the test measured 'pair_failures'; correct"
    ):
        check.judge(count(3))
    measured = share(0.8, failures=np.arange(200, 100, -1))
    assert Check("clean", "clean", "accuracy").judge(measured).failures == tuple(
        range(200, 140, -1)
    )
    off = Check(
        "clean",
        "clean",
        "accuracy",
        panel=Threshold(0.8, mean=0.9, std=0.1, reference_models=8),
        informational="they differ",
    )
    verdict = off.judge(share(0.5))
    assert (verdict.status, verdict.threshold, verdict.passed) == ("informational", None, True)
    assert verdict.as_json()["provenance"] is None
    assert (verdict.as_json()["reference_mean"], verdict.as_json()["reference_std"]) == (0.9, 0.1)
    assert replace(off, hand=Threshold(0.7)).judge(share(0.5)).status == "fail"


PANEL = Threshold(0.851, mean=0.868, std=0.006, reference_models=20)
ROTATION = Check("rotate-ccw-015", "rotation", "accuracy", pose=Pose(15), panel=PANEL)


def test_a_failure_says_all_there_is_to_know():
    verdict = ROTATION.judge(share(0.812, detail="top confusion Shirt→Coat 14% of 1,000"))
    assert verdict.explain("reports/stress.html") == (
        "rotate-ccw-015: accuracy 0.8120 < threshold 0.8510 (n=10000, 95% CI 0.8040 to 0.8200; "
        "20 reference models 0.8680 ± 0.0060); top confusion Shirt→Coat 14% of 1,000; pictures in "
        "reports/stress.html#rotate-ccw-015"
    )
    check = replace(ROTATION, panel=Threshold(0.815), conditions=Conditions(share=0.2))
    explanation = check.judge(share(0.812, n=2_000)).explain()
    assert (
        "accuracy 0.8120 beyond threshold 0.8150, within the 95% interval on other images (n=2000, "
        in explanation
    )
    assert (
        "accuracy 0.8160 >= threshold 0.8150 (n=2000, "
        in check.judge(share(0.816, n=2_000)).explain()
    )


ON_SAMPLE = {
    "interval keeps the minimum": ("accuracy", (0.815, 0.830), "pass"),
    "interval misses the minimum": ("accuracy", (0.800, 0.814), "fail"),
    "minimum within the interval": ("accuracy", (0.804, 0.830), "inconclusive"),
    "interval keeps the maximum": ("calibration_error", (0.800, 0.815), "pass"),
    "interval misses the maximum": ("calibration_error", (0.816, 0.830), "fail"),
    "maximum within the interval": ("calibration_error", (0.804, 0.830), "inconclusive"),
}
SAMPLES = {
    "strata": ({}, {"sampling": Sampling(0.0, 0.0)}),
    "fewer images": ({"conditions": Conditions(share=0.2)}, {}),
    "other number of images": ({"hand": Threshold(0.815, n=10_000)}, {}),
}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("case", ON_SAMPLE)
def test_on_a_sample_only_the_interval_decides_a_threshold_by_hand(case, sample):
    metric, interval, status = ON_SAMPLE[case]
    of_check, of_measurement = SAMPLES[sample]
    check = Check("by-hand", "clean", metric, **{"hand": Threshold(0.815)} | of_check)
    measured = Measurement(METRICS[metric], 0.812, 2_000, interval, **of_measurement)

    verdict = check.judge(measured)

    assert (verdict.status, verdict.is_open) == (status, status == "inconclusive")
    assert (
        "is inconclusive: threshold 0.8150 lies within the 95% interval" in verdict.explain()
    ) is verdict.is_open


def test_a_threshold_of_the_panel_knows_the_error_of_its_own_sample():
    sampled = replace(share(0.812, n=2_000, interval=(0.804, 0.82)), sampling=Sampling(0.0, 0.0))
    assert replace(ROTATION, panel=Threshold(0.815, n=2_000)).judge(sampled).status == "fail"


@pytest.mark.parametrize(
    ("interval", "p_value", "status"),
    [
        ((-0.005, 0.010), 0.5, "pass"),
        ((-0.050, -0.020), 1e-9, "fail"),
        ((-0.050, -0.020), 0.01, "inconclusive"),
        ((-0.030, 0.010), 0.5, "inconclusive"),
    ],
    ids=["kept", "significantly worse", "not significant", "within the interval"],
)
def test_on_a_sample_an_insignificant_change_decides_nothing_by_hand(interval, p_value, status):
    check = Check(
        "change",
        "regression",
        "accuracy_change",
        significance=0.001,
        hand=Threshold(-0.01),
        conditions=Conditions(share=0.2),
    )
    measured = Measurement(METRICS["accuracy_change"], -0.02, 2_000, interval, p_value=p_value)
    assert check.judge(measured).status == status


def test_a_baseline_that_a_sample_leaves_open_is_no_error():
    check = Check(
        "baseline-clean",
        "baseline",
        "accuracy",
        role="baseline",
        hand=Threshold(0.815),
        conditions=Conditions(share=0.2),
    )
    assert check.judge(share(0.812, n=2_000, interval=(0.804, 0.82))).status == "inconclusive"


PAIR = Check("pair", "pairs", "pair_failures", direction="at_most")
ALONE, CALIBRATED = (
    replace(ROTATION, panel=None),
    "no threshold yet, `stress-harness calibrate --family",
)
EXPLAINED = [
    (
        ROTATION,
        share(0.86),
        "rotate-ccw-015: accuracy 0.8600 >= threshold 0.8510 (n=10000, 95% CI 0.8040 to 0.8200; ",
    ),
    (
        ALONE,
        share(0.86),
        f"accuracy 0.8600 (informational: {CALIBRATED} rotation` makes one) (n=10000, 95% CI ",
    ),
    (
        replace(ALONE, role="incumbent"),
        share(0.86),
        "accuracy 0.8600 (informational: no threshold) (n=10000, ",
    ),
    (
        replace(ROTATION, informational="reference models differ"),
        share(0.86),
        "(informational: reference models differ) (n=10000, 95% CI 0.8040 to 0.8200; 20 reference "
        "models 0.8680 ± ",
    ),
    (
        replace(ROTATION, hand=Threshold(0.9)),
        share(0.86),
        "accuracy 0.8600 < threshold 0.9000 (n=10000, 95% CI 0.8040 to 0.8200; 20 reference "
        "models 0.8680 ± 0.0060; threshold set by hand)",
    ),
    (
        replace(PAIR, panel=Threshold(12.0, "", 8.0, 1.26, 20)),
        count(13),
        "pair: pair failures 13 > threshold 12 (n=10000, 95% CI 5 to 20; 20 reference models 8 ± "
        "1.3)",
    ),
    (
        replace(PAIR, panel=Threshold(12.0)),
        count(12),
        "pair: pair failures 12 <= threshold 12 (n=10000, 95% CI 5 to 20)",
    ),
    (
        PAIR,
        count(12),
        f"pair failures 12 (informational: {CALIBRATED} pairs` makes one) (n=10000, 95% CI 5 to "
        "20)",
    ),
    (
        Check("gain", "gain", "accuracy_gain", hand=Threshold(0.01)),
        share(-0.02, metric="accuracy_gain", interval=(-0.03, -0.01), detail="3 gained"),
        "gain: accuracy gain -0.0200 < threshold 0.0100 (n=10000, 95% CI -0.0300 to -0.0100; "
        "threshold set by hand); 3 gained",
    ),
]


@pytest.mark.parametrize(("row", "measured", "expected"), EXPLAINED)
def test_an_explanation_holds_value_threshold_number_and_interval(row, measured, expected):
    assert expected in row.judge(measured).explain()


@pytest.mark.parametrize(
    ("threshold", "measured", "missed"),
    [
        (12.6, count(13), "1 image of 10,000"),
        (5, count(130), "125 images of 10,000"),
        (0.91204, share(0.912), "1 image of 10,000"),
        (0.914, share(0.912), "0.2 points"),
        (0.914, share(0.53), "38.4 points"),
        (0.9, share(0.912), ""),
    ],
)
def test_by_how_much_a_threshold_is_missed_is_said_in_images_or_points(threshold, measured, missed):
    check = Check("r", "r", measured.metric.name, hand=Threshold(threshold))
    assert missed_by(check.judge(measured)) == missed


@pytest.mark.parametrize(
    ("unit", "values", "told"),
    [
        (Unit.SHARE, (0.01106, 0.0107), ("1.11%", "1.07%")),
        (Unit.SHARE, (0.5, 0.25), ("50.0%", "25.0%")),
        (Unit.SHARE, (0.5, 0.5), ("50.0%", "50.0%")),
        (Unit.DIFFERENCE, (0.012, -0.012), ("+1.2 points", "-1.2 points")),
        (Unit.IMAGES, (13, 12.6), ("13.0 images", "12.6 images")),
        (Unit.SCORE, (1.0, 1.0 + 1e-15), ("1.0", "1.000000000000001")),
    ],
    ids=str,
)
def test_different_numbers_never_read_alike(unit, values, told):
    assert unit.told_apart(*values) == told


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("not_applicable", "clean: not applicable: no baseline"),
        ("error", "clean: error: no baseline"),
    ],
)
def test_a_gate_without_measurement_says_why(status, text):
    verdict = Check("clean", "clean", "accuracy", hand=Threshold(0.9)).unjudged(
        status, "no baseline"
    )
    assert verdict.explain() == text
    assert verdict.passed == (status == "not_applicable")
    assert (verdict.value, verdict.threshold, verdict.interval, verdict.n) == (None, None, None, 0)


VERDICTS = {
    "fail": ROTATION.judge(share(0.812, detail="top confusion Shirt→Coat 14% of 1,000")),
    "hand": Check(
        "p",
        "pairs",
        "pair_failures",
        "at_most",
        class_name="A",
        hand=Threshold(3, "why"),
        keys={"pair": ["A", "B"]},
    ).judge(count(2)),
    "sample": replace(
        ROTATION, conditions=Conditions(share=0.2), hand=Threshold(0.9), role="baseline"
    ).judge(share(0.7)),
    "not-gated": Check("c", "clean", "accuracy").judge(share(0.5)),
    "unjudged": Check("c", "clean", "accuracy").unjudged("error", "it raised"),
    "not-applicable": Check("c", "clean", "accuracy", hand=Threshold(0.9)).unjudged(
        "not_applicable", "no baseline"
    ),
    "calibrated": Check(
        "c",
        "clean",
        "accuracy",
        informational="they differ",
        panel=Threshold(
            0.9, "", 0.91, 0.002, 20, k=2.86, minimum_detectable_drop=0.01, date="2026-11-25"
        ),
    ).judge(share(0.5)),
}


CONTRACT = {
    *("id", "role", "family", "metric", "value", "threshold", "direction"),
    *("n", "interval", "provenance", "status", "detail"),
}
STATED = {
    "fail": ("fail", "candidate", "panel", 0.851, "at_least"),
    "hand": ("pass", "candidate", "hand", 3, "at_most"),
    "sample": ("error", "baseline", "hand", 0.9, "at_least"),
    "not-gated": ("informational", "candidate", None, None, "at_least"),
    "unjudged": ("error", "candidate", None, None, "at_least"),
    "not-applicable": ("not_applicable", "candidate", "hand", None, "at_least"),
    "calibrated": ("informational", "candidate", None, None, "at_least"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_survives_the_wire_with_the_fields_of_the_contract(name):
    received = read_json(Verdict, as_json(VERDICTS[name]), where="sent")
    assert received == VERDICTS[name]
    assert received.explain("r.html") == VERDICTS[name].explain("r.html")
    assert received.as_json() == VERDICTS[name].as_json()
    entry = json.loads(json.dumps(received.as_json(), allow_nan=False))
    assert set(entry) >= CONTRACT
    assert (
        tuple(entry[field] for field in ("status", "role", "provenance", "threshold", "direction"))
        == STATED[name]
    )


def test_the_definition_of_a_row_depends_on_all_but_its_thresholds():
    def definition(**facts):
        row = {
            "id": "a",
            "family": "background",
            "metric": "prediction_consistency",
            "keys": {"background": "noise"},
        }
        return Check(**row | facts).definition

    for same in (
        {"hand": Threshold(0.5)},
        {"panel": Threshold(0.4)},
        {"informational": "they differ"},
        {"conditions": Conditions(share=0.2)},
    ):
        assert definition(**same) == definition(), same
    others = [
        *(
            {"id": "b"},
            {"family": "b"},
            {"metric": "object_dependence"},
            {"role": "incumbent"},
            {"pose": Pose(1)},
        ),
        *(
            {"keys": {"background": "blurred"}},
            {"keys": {"background": "noise", "answers": "wrong"}},
        ),
        *({"class_name": "A"}, {"significance": 0.1}),
    ]
    assert len({definition(), *(definition(**other) for other in others)}) == 10


@pytest.mark.parametrize(
    ("rows", "panel"), [("checks.toml", "panel.json"), ("checks-quick.toml", "panel-quick.json")]
)
def test_the_shipped_panels_hold_measurements_of_the_rows_as_they_are(rows, panel):
    checks = {check.id: check.definition for check in read_checks(OWN.with_name(rows)).checks}
    measured = json.loads((OWN.parents[1] / "models" / panel).read_bytes())["checks"]
    assert measured
    assert [row["id"] for row in measured if checks.get(row["id"]) != row["definition"]] == []
