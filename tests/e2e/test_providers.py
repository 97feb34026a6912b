"""The credentials as an operator sees and steers them, on real parts."""

import json

import pytest

pytestmark = pytest.mark.rig


def line(story, name):
    done = story.broker("provider", "list", "--json")
    assert done.returncode == 0, done.stderr
    return next(each for each in json.loads(done.stdout)["providers"] if each["name"] == name)


def blocks(story, name):
    shown = json.loads(story.broker("provider", "show", name, "--json").stdout)["provider"]
    return {block["cause"]: block for block in shown["blocks"]}


def test_a_test_purchase_is_accepted_and_leaves_no_machine(story):
    before = {row["instance_id"] for row in story.sandbox.bill()}
    done = story.broker("provider", "test", "lambda-a", "--buy", "--max-price", "5", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    lease = json.loads(done.stdout)["lease"]
    assert (lease["state"], lease["node"]) == ("released", "trial-lambda-a")
    assert lease["reason"].startswith("accepted as a node of shape")
    (bought,) = [row for row in story.sandbox.bill() if row["instance_id"] not in before]
    assert bought["terminated_at"] is not None


def test_a_machine_that_lies_is_not_accepted_and_leaves_no_machine_either(story):
    story.sandbox.faults([{"kind": "lies_gpu", "times": 1}])
    words = ("--buy", "--gpu", "H100", "--max-price", "5", "--yes", "--json")
    done = story.broker("provider", "test", "lambda-a", *words)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert not document["accepted"]
    assert "nvidia-smi reports" in document["lease"]["reason"]
    assert document["lease"]["instance_id"] not in story.sandbox.instances()


def test_a_job_is_bought_elsewhere_while_a_credential_is_paused(story):
    assert story.broker("provider", "pause", "lambda-a", "--reason", "the bill is checked").returncode == 0
    try:
        assert line(story, "lambda-a")["reason"] == "paused by root: the bill is checked"
        job = story.submit(*story.fresh())
        assert story.ends(job) == "COMPLETED"
        assert {lease["provider"] for lease in story.of_job(job)} == {"lambda-b"}
    finally:
        assert story.broker("provider", "resume", "lambda-a").returncode == 0
    assert line(story, "lambda-a")["state"] == "ok"


def test_a_refused_credential_is_shouted_and_a_good_answer_ends_that(story):
    story.sandbox.faults([{"kind": "unauthorized", "credential": "lambda-b"}])
    assert story.broker("provider", "test", "lambda-b").returncode == 5
    assert line(story, "lambda-b")["state"] == "suspended"
    assert blocks(story, "lambda-b")["refused"]["error"]
    assert "lambda-b: the provider refuses the credential" in story.broker("status").stdout
    curl = ["curl", "-s", "--unix-socket", "/run/broker/api.sock", "http://broker/metrics"]
    metrics = story.sandbox.run("root", curl).stdout
    assert 'broker_blocks{cause="refused",provider="lambda-b"} 1.0' in metrics
    job = story.submit(*story.fresh())
    assert story.ends(job) == "COMPLETED"
    assert {lease["provider"] for lease in story.of_job(job)} == {"lambda-a"}
    story.sandbox.faults([])
    assert story.broker("provider", "test", "lambda-b").returncode == 0
    assert line(story, "lambda-b")["state"] == "ok"


def test_a_refusal_is_kept_with_the_providers_words_and_the_next_offer_is_bought(story):
    story.sandbox.faults([{"kind": "sold_out", "times": 1}])
    job = story.submit(*story.fresh())
    assert story.ends(job) == "COMPLETED"
    refused = story.of_job(job)[-1]
    assert refused["reason"].startswith("sold out")
    block = blocks(story, refused["provider"])["sold_out"]
    assert block["subject"] == refused["offer_id"]
    assert "insufficient-capacity" in block["error"]
