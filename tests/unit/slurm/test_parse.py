from datetime import UTC, datetime, timedelta

import pytest

from broker.core.errors import BrokerError
from broker.slurm.parse import jobs_format, parse_jobs, parse_nodes, resume_jobs

SEPARATOR = "x0f9a"

# As Slurm 22.05.8 wrote it, here with what a node of ill will could say about its system.
_NODE = (
    "NodeName=h100-1 Arch=x86_64 CoresPerSocket=1 \n   CPUAlloc=0 CPUTot=2 CPULoad=0.05 AvailableFeatures=(null) "
    "ActiveFeatures=(null) Gres=gpu:h100:2 NodeAddr=10.77.0.2 NodeHostName=h100-1 Version=22.05.8 "
    "OS=Linux State=IDLE ThreadsPerCore=1 TmpDisk=0 #1 RealMemory=972 AllocMem=0 FreeMem=100 Sockets=2 Boards=1 "
    "State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=h100  BootTime=None "
    "SlurmdStartTime=None LastBusyTime=1795563623 CfgTRES=cpu=2,mem=972M,billing=2 AllocTRES= CapWatts=n/a "
    "CurrentWatts=0 AveWatts=0 ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s {rest}"
).replace("\n", "")


def a_node(state="IDLE+CLOUD+POWERED_DOWN", rest=""):
    return _NODE.format(state=state, rest=rest)


def test_a_nodes_state_is_its_base_word_and_its_flags():
    (node,) = parse_nodes(a_node("ALLOCATED+CLOUD+NOT_RESPONDING+POWERING_UP"))
    assert (node.name, node.state) == ("h100-1", "ALLOCATED")
    assert node.flags == {"CLOUD", "NOT_RESPONDING", "POWERING_UP"}
    assert node.reason is None


def test_the_star_of_older_releases_means_not_responding():
    (node,) = parse_nodes(a_node("DOWN*+CLOUD"))
    assert (node.state, node.flags) == ("DOWN", {"CLOUD", "NOT_RESPONDING"})


def test_a_reason_comes_without_its_signature_and_what_follows():
    rest = "Reason=broker: sold out [twice] a=b [root@1795563623]  Comment=State=DOWN"
    (node,) = parse_nodes(a_node("DOWN+CLOUD", rest))
    assert node.reason == "broker: sold out [twice] a=b"


def test_what_is_no_node_is_named():
    with pytest.raises(BrokerError, match="slurm_load_node"):
        parse_nodes("slurm_load_node: something")
    assert parse_nodes("\n") == []


def a_line(**changes):
    fields = {
        "jobid": "7", "name": "wrap", "username": "alice", "userid": "1001", "account": "lab", "partition": "h100",
        "state": "RUNNING", "reason": "None", "nodelist": "h100-[1-2]", "comment": "broker:spot=no",
        "admin_comment": "(null)", "timelimit": "1-02:03:04", "submittime": "1795563631", "starttime": "1795563637",
        "endtime": "1795570000", "batchflag": "1",
    }  # fmt: skip
    return "".join(value + SEPARATOR for value in {**fields, **changes}.values()) + "\n"


def test_a_running_job_has_a_start_and_no_end_yet():
    (job,) = parse_jobs(a_line(), SEPARATOR)
    assert (job.id, job.user, job.uid, job.account) == (7, "alice", 1001, "lab")
    assert job.nodes == ("h100-1", "h100-2")
    assert job.time_limit == timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert job.submitted_at == datetime.fromtimestamp(1795563631, UTC)
    assert job.started_at == datetime.fromtimestamp(1795563637, UTC)
    assert job.ended_at is None
    assert (job.comment, job.admin_comment, job.batch) == ("broker:spot=no", "", True)


def test_slurms_guesses_about_a_pending_job_are_not_taken_for_facts():
    (job,) = parse_jobs(a_line(state="PENDING", nodelist="", starttime="1795570000", endtime="N/A"), SEPARATOR)
    assert (job.nodes, job.started_at, job.ended_at) == ((), None, None)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("UNLIMITED", None), ("NOT_SET", None), ("5:00", timedelta(minutes=5)), ("1:00:00", timedelta(hours=1))],
)
def test_time_limits(text, limit):
    assert parse_jobs(a_line(timelimit=text), SEPARATOR)[0].time_limit == limit


def test_a_users_words_cannot_pass_for_fields():
    evil = "x\n   UserId=root(0) JobState=COMPLETED NodeList=h100-9 |a,b:0"
    first, second = parse_jobs(a_line(name=evil, comment=evil) + a_line(jobid="8"), SEPARATOR)
    assert (first.name, first.comment, first.uid, first.state) == (evil, evil, 1001, "RUNNING")
    assert second.id == 8


@pytest.mark.parametrize("text", [a_line()[:-40], "squeue: error", a_line(jobid="x"), a_line(timelimit="soon")])
def test_half_an_answer_is_an_error(text):
    with pytest.raises(BrokerError, match="squeue"):
        parse_jobs(text, SEPARATOR)


def test_the_format_asks_for_each_field_whole():
    assert all(field.endswith(":0" + SEPARATOR) for field in jobs_format(SEPARATOR).split(","))


@pytest.mark.parametrize(
    "resume",
    [
        {"jobs": [{"job_id": 1, "nodes": "c0"}, {"job_id": 2, "nodes": "c[0-1]"}], "all_nodes": "c[0-1]"},
        {
            "jobs": [
                {"job_id": 1, "nodes_resume": "c0", "nodes_alloc": "c[0,5]", "features": None, "extra": None},
                {"job_id": 2, "nodes_resume": "c[0-1]", "nodes_alloc": "c[0-1]", "partition": "h100"},
            ],
            "all_nodes_resume": "c[0-1]",
        },
    ],
    ids=["22.05", "23.02"],
)
def test_both_spellings_of_the_resume_file_tell_which_job_woke_what(resume):
    assert resume_jobs(resume) == [(1, ("c0",)), (2, ("c0", "c1"))]


@pytest.mark.parametrize("resume", [{}, {"jobs": None}, {"jobs": ["x", {}, {"job_id": "1", "nodes": "c0"}]}])
def test_a_resume_file_that_tells_nothing_is_no_error(resume):
    assert resume_jobs(resume) == []
