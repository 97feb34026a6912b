"""The stories of the first release, on real parts: Slurm, SSH, WireGuard, sshfs; only the cloud's HTTP is emulated."""

import json
import signal
from decimal import Decimal

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.rig


def test_a_batch_job_runs_on_a_bought_machine_and_its_result_is_home(story):
    job = story.submit(script="id -un >who.txt; hostname >>who.txt; nvidia-smi -L >>who.txt")
    assert story.ends(job) == "COMPLETED"
    who, host, gpu = story.home("alice", "who.txt").splitlines()
    assert (who, host) == ("alice", story.job(job)["NodeList"])
    assert "H100" in gpu


def test_srun_talks_to_the_login_host_over_the_overlay(story):
    done = story.sandbox.run(
        "alice", ["srun", "-p", "cloud", "--gres=gpu:h100:1", "-t", "2", "sh", "-c", "cat; pwd"], stdin="hello\n"
    )
    assert (done.returncode, done.stdout) == (0, "hello\n/home/alice\n"), done.stderr


def test_two_users_have_two_machines_and_neither_sees_the_others_home(story):
    look = "ls /home; cat /home/alice/secret.txt; grep -c ^alice: /etc/passwd"
    story.sandbox.run("alice", ["sh", "-c", "echo mine > secret.txt; chmod 644 secret.txt; chmod 755 ."])
    first = story.submit(script="sleep 8")
    second = story.submit(user="bob", script=f"({look}) >seen.txt 2>&1; true")
    assert (story.ends(second), story.ends(first)) == ("COMPLETED", "COMPLETED")
    assert story.job(first)["NodeList"] != story.job(second)["NodeList"]
    assert story.home("bob", "seen.txt").splitlines() == [
        "bob",
        "ubuntu",
        "cat: /home/alice/secret.txt: No such file or directory",
        "0",
    ]


def test_an_idle_node_is_given_back_and_its_cost_contains_the_providers_bill(story):
    job = story.submit(*story.fresh())
    assert story.ends(job) == "COMPLETED"
    (lease,) = story.wait(lambda: [x for x in story.of_job(job) if x["state"] == "released"], 90)
    assert lease["instance_id"] not in story.sandbox.instances()
    (bill,) = [row for row in story.sandbox.bill() if row["instance_id"] == lease["instance_id"]]
    assert Decimal(lease["cost"]["low"]) <= Decimal(bill["amount"]) <= Decimal(lease["cost"]["high"])


def test_a_warm_node_takes_the_next_users_job_and_keeps_nothing_of_the_last(story):
    where = story.fresh()
    assert story.ends(story.submit(*where)) == "COMPLETED"
    job = story.submit(*where, user="bob", script="ls /home >seen.txt; grep -c ^alice: /etc/passwd >>seen.txt; true")
    assert story.ends(job) == "COMPLETED"
    assert story.home("bob", "seen.txt") == "bob\nubuntu\n0\n"
    assert story.of_job(job) == [], "a second machine was bought"


def test_jobs_of_other_partitions_are_not_touched(story):
    bought = len(story.sandbox.bill())
    done = story.sandbox.run("alice", ["srun", "-p", "local", "--comment=broker:mode=nonsense", "hostname"])
    assert (done.returncode, done.stdout) == (0, "local-1\n"), done.stderr
    assert len(story.sandbox.bill()) == bought


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "cloud", "--gres=gpu:h100:1", "--comment=broker:mode=gren"], "green"),
        (["-p", "cloud", "--gres=gpu:h100:1", "--comment=broker:premum=15%"], "premium"),
        (["-p", "cloud", "--gres=gpu:h100:1", "--comment=broker:spot=maybe"], "only"),
        (["-p", "cloud", "--gres=gpu:h100:1", ":", "-p", "cloud", "--gres=gpu:h100:1"], "het"),
    ],
)
def test_a_wrong_wish_is_refused_at_submit_with_the_nearest_right_one(story, words, said):
    assert said in story.refused(*words)


def test_a_sold_out_offer_and_a_lying_machine_are_followed_by_the_next_behind_the_same_name(story):
    story.sandbox.faults(
        [
            {"kind": "sold_out", "credential": "lambda-a", "instance_type": "gpu_1x_h100_pcie"},
            {"kind": "lies_gpu", "credential": "lambda-b", "times": 1},
        ]
    )
    job = story.submit(*story.fresh(), script="nvidia-smi -L >gpu.txt")
    assert story.ends(job, 120) == "COMPLETED"
    assert "H100" in story.home("alice", "gpu.txt")
    attempts = story.of_job(job)
    assert len({lease["node"] for lease in attempts}) == 1
    reasons = " | ".join(str(lease["reason"]) for lease in attempts)
    assert "sold out" in reasons and "NVIDIA A10" in reasons
    why = story.broker("why", str(job), user="alice").stdout
    assert "NVIDIA A10" in " ".join(why.split())


def test_a_lost_answer_buys_nothing_twice(story):
    story.sandbox.faults([{"kind": "answer_lost", "times": 1}])
    before = len(story.sandbox.bill())
    assert story.ends(story.submit(*story.fresh())) == "COMPLETED"
    assert len(story.sandbox.bill()) == before + 1


def test_a_daemon_killed_in_mid_purchase_goes_on_where_it_died(story):
    before = len(story.sandbox.bill())
    job = story.submit(*story.fresh(), script="echo done >killed.txt")
    story.wait(lambda: len(story.sandbox.bill()) > before)
    story.sandbox.signal("broker", signal.SIGKILL)
    story.wait(lambda: not story.sandbox.is_alive("broker"))
    story.sandbox.start("broker")
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "killed.txt") == "done\n"
    assert len(story.sandbox.bill()) == before + 1


def test_what_slurm_asks_while_the_daemon_is_dead_is_done_when_it_is_back(story):
    where = story.fresh()
    story.sandbox.signal("broker", signal.SIGKILL)
    story.wait(lambda: not story.sandbox.is_alive("broker"))
    job = story.submit(*where, script="echo late >late.txt")
    story.wait(lambda: story.job(job)["JobState"] == "CONFIGURING")
    story.sandbox.start("broker")
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "late.txt") == "late\n"


def test_a_running_job_ends_well_while_the_daemon_is_dead(story):
    job = story.submit(script="touch began.txt; sleep 6; echo end >end.txt")
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING")
    story.sandbox.signal("broker", signal.SIGKILL)
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "end.txt") == "end\n"
    story.sandbox.start("broker")


def test_a_job_cancelled_while_its_machine_boots_leaves_nothing(story):
    job = story.submit(*story.fresh())
    (lease,) = story.wait(lambda: [x for x in story.of_job(job) if x["instance_id"]])
    story.sandbox.run("alice", ["scancel", str(job)])
    assert story.ends(job) == "CANCELLED"
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances(), 90)


def test_while_buying_is_paused_jobs_wait_and_are_told_why(story):
    story.broker("pause", "--reason", "budget review")
    try:
        bought = len(story.sandbox.bill())
        job = story.submit(*story.fresh())
        story.wait(lambda: "budget review" in " ".join(story.broker("why", str(job), user="alice").stdout.split()))
        assert len(story.sandbox.bill()) == bought
    finally:
        story.broker("resume")
    assert story.ends(job) == "COMPLETED"


def test_an_operator_takes_a_machine_away_and_the_job_runs_elsewhere(story):
    job = story.submit("--requeue", script="sleep 8; hostname >again.txt")
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING")
    node = story.job(job)["NodeList"]
    (lease,) = [x for x in story.leases() if x["node"] == node and x["state"] == "ready"]
    assert story.broker("lease", "release", lease["id"], "--reason", "maintenance").returncode == 0
    story.wait(lambda: story.job(job)["JobState"] == "PENDING", 30)
    story.sandbox.run("root", ["scontrol", "update", f"jobid={job}", "StartTime=now"])
    assert story.ends(job, 120) == "COMPLETED"


def test_a_user_reads_the_story_of_their_own_job_only(story):
    job = story.submit(script="sleep 3")
    assert story.broker("why", str(job), user="bob").returncode == 3
    assert story.broker("lease", "list", user="bob").returncode == 3
    assert story.broker("why", "99999", user="alice").returncode == 4
    story.ends(job)


def test_an_operator_has_a_shell_and_the_logs_of_a_rented_machine(story):
    job = story.submit(script="sleep 8")
    story.wait(lambda: story.job(job)["JobState"] == "RUNNING")
    node = story.job(job)["NodeList"]
    assert story.broker("node", "ssh", node, "--", "hostname").stdout == f"{node}\n"
    (lease,) = [x for x in story.leases() if x["node"] == node and x["state"] == "ready"]
    assert "== slurmd: 0" in story.broker("lease", "log", lease["id"], "--boot").stdout
    shown = json.loads(story.broker("lease", "show", lease["id"], "--json").stdout)["lease"]
    assert [step["name"] for step in shown["steps"]][-1] == "slurmd"


def test_no_secret_stands_in_a_log_an_argument_list_or_the_ledger(story):
    keys = [
        story.sandbox.run("root", ["cat", f"/etc/broker/{name}.key"]).stdout.strip()
        for name in ("lambda-a", "lambda-b", "vast-a")
    ]
    arguments = story.sandbox.run("root", ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout
    database = story.sandbox.run(
        "root", ["sh", "-c", "strings -a /var/lib/broker/broker.db* 2>/dev/null || cat /var/lib/broker/broker.db*"]
    )
    texts = [
        arguments,
        database.stdout,
        *(path.read_text(errors="replace") for path in story.sandbox.layout.log.glob("*.log")),
    ]
    for key in keys:
        assert len(key) > 20
        assert not any(key in text for text in texts)


def test_after_a_job_the_metrics_tell_of_its_machine(story):
    def value(name, **labels):
        read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9101/metrics').read().decode())"
        text = story.sandbox.run("alice", ["python3", "-c", read]).stdout
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    bought, ready = value("broker_creates_total", outcome="bought"), value("broker_stage_seconds_count", stage="ready")
    assert story.ends(story.submit(*story.fresh())) == "COMPLETED"
    assert value("broker_creates_total", outcome="bought") == bought + 1
    assert value("broker_stage_seconds_count", stage="ready") == ready + 1
    assert value("broker_intents_total", verb="resume") >= 1
    assert value("broker_provider_requests_total", status="200") > 0
    assert value("broker_activity_passes_total", outcome="failed") == 0 and value("broker_ledger_up") == 1
