import json
import os
import shutil
import time
from pathlib import Path

import pytest
from e2e import secrets_scan as scan

from broker.sandbox.rig import Sandbox

JOB = ["--partition=cloud", "--gres=gpu:h100:1", "--time=5"]


class Story:
    """One sandbox, and the few things that the stories do in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def submit(self, *words: str, user: str = "alice", script: str = "true") -> int:
        done = self.sandbox.run(user, ["sbatch", "--parsable", *JOB, *words], stdin=f"#!/bin/sh\n{script}\n")
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split(";")[0])

    def fresh(self) -> list[str]:
        """Options that put a job on a node whose machine must be bought."""
        rows = self.sandbox.run("root", ["sinfo", "-h", "-N", "-p", "cloud", "-o", "%N %T"]).stdout.split("\n")
        held = {lease["node"] for lease in self.leases() if lease["state"] not in {"released", "releasing"}}
        asleep = [row.split()[0] for row in rows if row.startswith("h100") and row.endswith("idle~")]
        return ["-w", next(node for node in asleep if node not in held)]

    def refused(self, *words: str) -> str:
        done = self.sandbox.run("alice", ["sbatch", *words], stdin="#!/bin/sh\ntrue\n")
        assert done.returncode != 0, "the job was accepted"
        return done.stderr

    def job(self, job: int) -> dict[str, str]:
        text = self.sandbox.run("root", ["scontrol", "-o", "show", "job", str(job)]).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def ends(self, job: int, seconds: float = 90) -> str:
        over = {"COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"}
        self.wait(lambda: self.job(job)["JobState"] in over, seconds)
        return self.job(job)["JobState"]

    def leases(self) -> list[dict]:
        done = self.sandbox.run("root", ["broker", "lease", "list", "--all", "--json"])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["leases"]

    def of_job(self, job: int) -> list[dict]:
        return [lease for lease in self.leases() if lease["job_id"] == job]

    def broker(self, *words: str, user: str = "root"):
        return self.sandbox.run(user, ["broker", *words])

    def home(self, user: str, name: str) -> str:
        return self.sandbox.run(user, ["cat", name]).stdout

    def wait(self, reached, seconds: float = 60):
        limit = time.monotonic() + seconds
        while not (found := reached()):
            assert time.monotonic() < limit, f"not reached in {seconds} s; leases: {self._told()}"
            time.sleep(0.2)
        return found

    def all_given_back(self) -> None:
        """Every machine is gone at the provider, and the ledger says so, too."""
        self.sandbox.run("root", ["sh", "-c", "squeue -h -o %i | xargs -r scancel"])
        for lease in self.leases():
            if lease["state"] not in {"released", "releasing", "draining"}:
                self.broker("lease", "release", lease["id"], "--reason", "the story is over")
        self.wait(lambda: not self.sandbox.instances(), 90)
        self.wait(lambda: all(lease["state"] == "released" for lease in self.leases()), 60)

    def _told(self) -> object:
        try:
            return [(lease["node"], lease["state"], lease["reason"]) for lease in self.leases()]
        except AssertionError as exc:
            return exc


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("the sandbox makes namespaces and mounts: it needs root")
    if shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("Slurm is not installed: `make packages` installs what the sandbox needs")
    # Beside the checkout's own cache, so that the instance root is built once for demo and tests.
    directory = Path(__file__).parents[2] / f".sandbox-e2e-{os.environ.get('PYTEST_XDIST_WORKER', '0')}"
    sandbox = Sandbox(directory, say=lambda line: None)
    sandbox.down()
    try:
        sandbox.up(boot_seconds=1.0, limits="off", suspend_time_s=8)
        yield sandbox
        Story(sandbox).all_given_back()
        seen = scan.in_places(scan.of_site(sandbox.layout), scan.kept_by(sandbox.layout))
        assert seen == [], "a secret stands in what the stories left behind"
    finally:
        sandbox.down()
        if not os.environ.get("KEEP"):  # KEEP=1: the logs stay for whoever looks for a failure's cause
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def story(sandbox):
    story = Story(sandbox)
    sandbox.faults([])
    yield story
    sandbox.faults([])
    if not sandbox.is_alive("broker"):
        sandbox.start("broker")
    assert story.broker("resume").returncode == 0
