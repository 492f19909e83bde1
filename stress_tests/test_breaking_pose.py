"""An object must be rotated or shifted far before it is predicted as another."""

from harness.checks import Key, Share, one_of
from harness.inference.search import breaking
from harness.measures import breaking_severity
from harness.perturb.grids import PATHS, path_within
from harness.plugin import check

PATH = Key("path", one_of(PATHS), lambda path: PATHS[path].words)
SHARE_BROKEN = Key("share_broken", Share, "{:.0%} of the images break by")


@check("search", PATH, SHARE_BROKEN, metric="breaking_severity")
def test_objects_hold_out(candidate, probe_images, evidence, stress_check):
    path = path_within(probe_images.domain.augmentation, stress_check[PATH])
    found = breaking(candidate.classifier, probe_images, path)
    verdict = stress_check.judge(breaking_severity(found, share_broken=stress_check[SHARE_BROKEN]))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
