"""Jobs of several nodes, and what becomes of a job for which nothing can be bought, on real parts."""

import json
import re

import pytest

pytestmark = pytest.mark.rig

GROUP = ["-N", "3", "--ntasks-per-node=1"]


def group(story, job):
    """The job's leases that hold a machine."""
    return [
        lease for lease in story.of_job(job) if lease["instance_id"] and lease["state"] in {"bootstrapping", "ready"}
    ]


def received_by_hub(story) -> int:
    """Bytes that the hub got from all nodes."""
    done = story.sandbox.run("root", ["wg", "show", "broker0", "transfer"])
    return sum(int(line.split("\t")[1]) for line in done.stdout.splitlines())


SEND = """srun sh -c '
case $SLURM_PROCID in
0) timeout 60 perl -MIO::Socket::INET -e "
  my \\$door = IO::Socket::INET->new(LocalPort => 6000, Listen => 1, ReuseAddr => 1) or die;
  my \\$peer = \\$door->accept or die;
  my \\$got = 0;
  while (my \\$n = sysread(\\$peer, my \\$block, 1 << 16)) { \\$got += \\$n }
  print \\$got;
" >got.txt ;;
1) sleep 1; timeout 60 bash -c "head -c 50000000 /dev/zero >/dev/tcp/$FIRST/6000" ;;
esac'
"""


def test_a_job_of_several_nodes_runs_whole_in_one_place_and_its_ranks_speak_directly(story):
    script = (
        "srun sh -c 'echo $(hostname) $NCCL_SOCKET_IFNAME' | sort >who.txt\n"
        'FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1); export FIRST\n' + SEND
    )
    job = story.submit(*GROUP, script=script)
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING", 90)
    before = received_by_hub(story)
    leases = group(story, job)
    assert len({(lease["provider"], lease["zone"]) for lease in leases}) == 1, leases
    assert story.ends(job, 90) == "COMPLETED"
    who = [line.split() for line in story.home("alice", "who.txt").splitlines()]
    assert [words[1:] for words in who] == [["broker0"]] * 3
    assert len({words[0] for words in who}) == 3
    assert story.home("alice", "got.txt") == "50000000"
    assert received_by_hub(story) - before < 5_000_000, "the ranks' bytes crossed the hub"


def test_a_place_with_too_few_machines_loses_the_whole_job_to_the_next(story):
    story.all_given_back()
    before = len(story.sandbox.bill())
    # The third launch is refused: at most two machines of the first place are bought.
    story.sandbox.faults([{"kind": "sold_out", "after": 2, "region": "us-west-1"}])
    job = story.submit(*GROUP, script="srun hostname >where.txt")
    assert story.ends(job, 120) == "COMPLETED"
    ran = [lease for lease in story.of_job(job) if any(e["became"] == "ready" for e in shown(story, lease)["events"])]
    assert len(ran) == 3
    assert {lease["zone"] for lease in ran} != {"us-west-1"} and len({(x["provider"], x["zone"]) for x in ran}) == 1
    assert len(story.sandbox.bill()) - before <= 5
    assert len(story.home("alice", "where.txt").splitlines()) == 3


def shown(story, lease):
    return json.loads(story.broker("lease", "show", lease["id"], "--json").stdout)["lease"]


def test_when_everything_is_sold_out_a_batch_job_waits_and_srun_is_told_and_ended(story):
    story.all_given_back()
    story.sandbox.faults([{"kind": "sold_out"}])
    batch = story.submit()
    told = story.wait(lambda: "nothing to buy" in said(story, batch) and said(story, batch), 60)
    assert re.search(r"broker: nothing to buy for h100: .*; tried again at \d\d:\d\d:\d\d UTC", told)
    assert story.job(batch)["JobState"] == "PENDING"
    done = story.sandbox.run("alice", ["srun", "-p", "cloud", "--gres=gpu:h100:1", "-t", "2", "true"], timeout=120)
    assert done.returncode != 0
    assert "broker: nothing to buy for h100" in done.stderr, done.stderr
    story.sandbox.faults([])
    for name in ("lambda-a", "lambda-b", "vast-a"):  # as an operator who knows that the sell-out is over
        assert story.broker("provider", "resume", name).returncode == 0
    story.wait(lambda: any(is_for_anybody(row) for row in offers(story)), 60)
    story.sandbox.run("root", ["scontrol", "update", f"jobid={batch}", "StartTime=now"])
    assert story.ends(batch, 120) == "COMPLETED"
    assert "broker:" not in said(story, batch), "the reason stayed after the start"


def is_for_anybody(offer):
    """One that a job buys without a wish for spot."""
    return offer["available"] and offer["hardware"]["accelerator_count"] == 1 and offer["capacity_type"] == "on_demand"


def offers(story):
    return json.loads(story.broker("offers", "--gpu", "H100", "--json").stdout)["offers"]


def said(story, job) -> str:
    text = story.sandbox.run("root", ["scontrol", "-o", "show", "job", str(job)]).stdout
    found = re.search(r" AdminComment=(.*?)(?: [A-Z][A-Za-z/]+=|$)", text)
    return found[1] if found else ""


@pytest.mark.slow
def test_srun_whose_place_has_no_room_for_its_other_node_gets_it_elsewhere(story):
    story.all_given_back()
    job = story.submit(*story.fresh(), script="true")
    assert story.ends(job) == "COMPLETED"
    (here,) = group(story, job)
    story.sandbox.faults([{"kind": "sold_out", "region": here["zone"]}])
    asked = ["srun", "-p", "cloud", "--gres=gpu:h100:1", "-t", "5", "-N", "2", "-w", here["node"], "hostname"]
    done = story.sandbox.run("alice", asked, timeout=180)
    assert done.returncode == 0, done.stderr
    names = sorted(done.stdout.split())
    assert len(names) == 2 and here["node"] in names
    places = {lease["zone"] for lease in story.leases() if lease["node"] in names and lease["state"] == "ready"}
    assert here["zone"] in places and len(places) == 2, places
    story.all_given_back()
