"""The gate on a served model: verdicts as of its checkpoint, 4 for a server that goes wrong, and no secret anywhere."""

from functools import cache

import pytest
import torch
from inference_servers import dropped, inference_server
from zoo import network

from harness.inference.predictors import exchange


@cache
def good():
    return network()


def logits(images):
    with torch.inference_mode():
        return good()(torch.from_numpy(images.copy())).numpy()


@pytest.fixture
def server():
    with inference_server(logits, shape=(-1, 1, 16, 16), classes=4) as served:
        yield served


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.005)


def written(zoo):
    return "".join((zoo.root / "reports" / f"stress.{kind}").read_text() for kind in ("json", "md"))


def test_its_values_are_those_of_its_checkpoint(zoo, server):
    assert zoo.run("--baseline", "none", "--incumbent", "none").ret == 0
    checks = zoo.report()["checks"]
    served = zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none")
    assert served.ret == 0
    report = zoo.report()
    assert [each["value"] for each in report["checks"]] == [each["value"] for each in checks]
    assert report["candidate"]["version"] == "1"
    assert report["candidate"]["url"] == server.url
    asked = len(server.images)
    assert zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none").ret == 0
    assert len(server.images) - asked < asked / 10, "answers of the first run are kept"


@pytest.mark.processes
def test_workers_share_its_answers(zoo, server):
    ran = zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none", "-n", "2")
    assert ran.ret == 0
    assert zoo.report()["verdict"] == "pass"


@pytest.mark.parametrize(
    ("workers", "after"),
    [((), 27), pytest.param(("-n", "2"), 40, marks=pytest.mark.processes)],
    ids=["", "workers"],
)
def test_a_server_that_goes_away_ends_with_4_and_is_continued(zoo, server, workers, after):
    server.fault = lambda number, handler: number > after and dropped(handler)
    arguments = ("--candidate", server.url, "--baseline", "none", "--incumbent", "none", *workers)
    ran = zoo.run(*arguments)
    assert ran.ret == 4
    assert zoo.report()["verdict"] == "error"
    assert "gave no answer in 6 attempts" in written(zoo)
    assert len(ran.outlines) < 30
    processes = 2 if workers else 1  # Each may have asked the server before the run ended.
    assert 1 <= sum("gave no answer" in line for line in ran.outlines) <= processes
    answered = set(server.images)
    server.fault, server.images = (lambda number, handler: False), []
    assert zoo.run(*arguments).ret == 0
    again = [each for each in server.images if each in answered]
    assert len(again) < len(server.images) / 4


def test_a_server_that_mixes_up_predictions_ends_with_4(zoo, server):
    server.values = lambda number, scores: scores[::-1] if number > 30 else scores
    assert zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none").ret == 4
    assert "mixes up its predictions" in written(zoo)


def test_a_version_that_changes_ends_with_4(zoo, server):
    def deploy(number, handler):
        if number == 30:
            server.version = "2"

    server.fault = deploy
    assert zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none").ret == 4
    assert "its version was 1, and now is 2" in written(zoo)


def test_no_secret_is_shown_anywhere(zoo, server, monkeypatch):
    monkeypatch.setenv("STRESS_HTTP_TOKEN", "hunter2")
    server.fault = lambda number, handler: number > 30 and (handler.send(403, b"hunter2 may not") or True)
    ran = zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none", "--showlocals", "-vv")
    assert ran.ret == 4
    assert "answers 403" in written(zoo)
    files = [path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in each for each in files)
    assert "hunter2" not in ran.stdout.str() + ran.stderr.str()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:hunter2@{}/v2/models/clf", "has credentials in the URL"),
        ("http://hunter2@{}/v2/models/clf", "has credentials in the URL"),
        ("http://{}/v2/models/other", "answers 404"),
        ("http://{}/clf", "is no address of a served model"),
    ],
)
def test_an_address_out_of_order_is_a_usage_error(zoo, server, url, said):
    ran = zoo.run("--candidate", url.format(server.root.removeprefix("http://")))
    assert ran.ret == 4
    assert said in ran.stderr.str()
    assert "hunter2" not in ran.stdout.str() + ran.stderr.str() + written(zoo)
