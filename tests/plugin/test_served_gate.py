"""The gate on a served model.

Verdicts as of its checkpoint, 4 for a server that goes wrong, and no secret anywhere.
"""

from functools import cache

import pytest
import torch
from inference_servers import dropped, inference_server
from zoo import network

from harness.features.served_models import exchange

ALONE = ("--baseline", "none", "--incumbent", "none")


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


def test_its_values_are_those_of_its_checkpoint(shared, server):
    asked = shared.once(*ALONE)
    served = shared.once("--candidate", server.url, *ALONE)
    assert (asked.ending, served.ending) == ((0, "pass"), (0, "pass"))
    assert [each["value"] for each in served.checks.values()] == [
        each["value"] for each in asked.checks.values()
    ]
    candidate = served.report["candidate"]
    assert (candidate["version"], candidate["url"]) == ("1", server.url)
    count = len(server.images)
    again = shared.once("--candidate", server.url, *ALONE, "-v")
    assert again.ending == (0, "pass")
    assert len(server.images) - count < max(count, 1_000) / 10, "answers of the first run are kept"


@pytest.mark.parametrize(
    ("workers", "after"),
    [((), 27), pytest.param(("-n", "2"), 40, marks=pytest.mark.processes)],
    ids=["serial", "workers"],
)
def test_a_server_that_goes_away_ends_with_4_and_is_continued(zoo, server, workers, after):
    server.fault = lambda number, handler: number > after and dropped(handler)
    arguments = ("--candidate", server.url, *ALONE, *workers)
    ran = zoo.once(*arguments)
    assert ran.ending == (4, "error")
    assert "gave no answer in 6 attempts" in ran.summary
    assert len(ran.stdout.lines) < 30
    processes = 2 if workers else 1  # Each may have asked the server before the run ended.
    assert 1 <= sum("gave no answer" in line for line in ran.stdout.lines) <= processes
    answered = set(server.images)
    server.fault, server.images = (lambda number, handler: False), []
    assert zoo.run("--candidate", server.url, *ALONE).ret == 0, (
        "in one process, for what workers left, too"
    )
    again = [each for each in server.images if each in answered]
    assert len(again) < len(server.images) / 4


def deployed(server):
    def deploy(number, handler):
        if number == 30:
            server.version = "2"

    server.fault = deploy


def mixed_up(server):
    server.values = lambda number, scores: scores[::-1] if number > 30 else scores


def talkative(server):
    server.fault = lambda number, handler: (
        number > 30 and (handler.send(403, b"hunter2 may not") or True)
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (mixed_up, "mixes up its predictions"),
        (deployed, "its version was 1, and now is 2"),
        (talkative, "answers 403"),
    ],
)
def test_a_server_that_goes_wrong_ends_with_4_and_no_secret_is_shown(
    zoo, server, monkeypatch, fault, said
):
    monkeypatch.setenv("STRESS_HTTP_TOKEN", "hunter2")
    fault(server)
    ran = zoo.once("--candidate", server.url, *ALONE, "--showlocals", "-vv")
    assert ran.ending == (4, "error")
    assert said in ran.why
    files = [path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in each for each in files)
    assert "hunter2" not in ran.said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:hunter2@{}/v2/models/clf", "has credentials in the URL"),
        ("http://hunter2@{}/v2/models/clf", "has credentials in the URL"),
        ("http://{}/v2/models/other", "answers 404"),
        ("http://{}/clf", "is no address of a served model"),
    ],
)
def test_an_address_out_of_order_is_a_usage_error(shared, server, url, said):
    ran = shared.once("--candidate", url.format(server.root.removeprefix("http://")))
    assert ran.ending == (4, "error")
    assert said in ran.stderr.str()
    assert "hunter2" not in ran.said + ran.summary + str(ran.report)
