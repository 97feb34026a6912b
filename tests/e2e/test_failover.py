"""One job, two providers: what Lambda has not, a stranger's machine at Vast.ai has, and whatever that one does is survived."""

import json

import pytest

pytestmark = pytest.mark.rig

LAMBDA_IS_SOLD_OUT = [{"kind": "sold_out", "credential": name} for name in ("lambda-a", "lambda-b")]


def test_what_lambda_has_sold_out_is_bought_at_vast_behind_the_same_name(story):
    story.sandbox.faults(LAMBDA_IS_SOLD_OUT)
    job = story.submit(*story.fresh(), script="hostname >where.txt; nvidia-smi -L >>where.txt")
    assert story.ends(job, 120) == "COMPLETED"
    host, gpu = story.home("alice", "where.txt").splitlines()
    attempts = story.of_job(job)
    assert {lease["node"] for lease in attempts} == {host}
    assert "H100" in gpu
    (bought,) = [lease for lease in attempts if lease["instance_id"]]
    assert (bought["provider"], bought["instance_type"], bought["machine"]) == ("vast-a", "30411x1", "30411")
    assert {lease["provider"] for lease in attempts if lease is not bought} == {"lambda-a", "lambda-b"}
    nothing_left(story, attempts)


def test_a_host_that_lies_about_its_gpu_is_followed_by_the_next(story):
    story.sandbox.faults([*LAMBDA_IS_SOLD_OUT, {"kind": "lies_gpu", "credential": "vast-a", "times": 1}])
    job = story.submit(*story.fresh(), script="nvidia-smi -L >gpu.txt")
    assert story.ends(job, 150) == "COMPLETED"
    assert "H100" in story.home("alice", "gpu.txt")
    vast = [lease for lease in story.of_job(job) if lease["provider"] == "vast-a"]
    first, second = sorted(vast, key=lambda lease: lease["attempt"])
    assert "NVIDIA A10" in first["reason"]
    assert first["machine"] != second["machine"]
    nothing_left(story, story.of_job(job))


def test_an_outbid_machine_is_given_back_and_its_job_runs_again_elsewhere(story):
    job = story.submit(
        "--requeue", "--comment=broker:spot=only", *story.fresh(), script="hostname >>outbid.txt; sleep 12"
    )
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING", 90)
    (first,) = [lease for lease in story.of_job(job) if lease["state"] == "ready"]
    assert (first["provider"], first["capacity_type"]) == ("vast-a", "spot")
    story.sandbox.take_away(first["instance_id"])
    assert story.ends(job, 200) == "COMPLETED"
    shown = json.loads(story.broker("lease", "show", first["id"], "--json").stdout)["lease"]
    assert "outbid" in shown["reason"] or "no slurmd" in shown["reason"]
    leases = [
        lease
        for lease in story.leases()
        if lease["provider"] == "vast-a" and lease["created_at"] >= first["created_at"]
    ]
    assert len({lease["instance_id"] for lease in leases if lease["instance_id"]}) == 2
    assert len(story.home("alice", "outbid.txt").splitlines()) == 2
    nothing_left(story, leases)


def nothing_left(story, leases):
    """Neither provider charges for any machine of these leases any more."""
    story.sandbox.faults([])
    ours = {lease["instance_id"] for lease in leases if lease["instance_id"]}
    story.wait(lambda: not ours & set(story.sandbox.instances()), 90)
    ended = {row["instance_id"]: row["terminated_at"] for row in story.sandbox.bill() if row["instance_id"] in ours}
    assert ended.keys() == ours
    assert all(at is not None for at in ended.values())
