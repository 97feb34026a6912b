"""The contract of `slurm_contract.py`, kept by both roads at a real slurmctld.

The host's own Slurm is always tried. Another release, and pyslurm with it, is tried where the environment names it:
BROKER_SLURM_PREFIX is where that Slurm is installed, BROKER_PYSLURM_PYTHON an interpreter that has pyslurm for it.
"""

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from contract.slurm_contract import SlurmContract
from integration.slurm_site import SlurmSite, wait_for

from broker.core.errors import SlurmUnavailable

OTHER, PYTHON = os.environ.get("BROKER_SLURM_PREFIX", ""), os.environ.get("BROKER_PYSLURM_PYTHON", "")

pytestmark = [pytest.mark.rig, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]
needs_slurm = pytest.mark.skipif(shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None, reason="no slurmctld")
needs_other = pytest.mark.skipif(not OTHER, reason="BROKER_SLURM_PREFIX names no other Slurm")
needs_pyslurm = pytest.mark.skipif(
    not (OTHER and PYTHON),
    reason="pyslurm 25.11 needs Slurm 25.11: BROKER_SLURM_PREFIX and BROKER_PYSLURM_PYTHON name none",
)
TIMEOUT_S = 5.0

_CLIENT = """
import pickle, sys
make, conf, timeout, python = pickle.load(sys.stdin.buffer)
if make == "pyslurm":
    from broker.slurm.pyslurm_client import PyslurmClient
    client = PyslurmClient(python, conf, timeout)
else:
    from broker.slurm.client import CommandClient
    client = CommandClient(conf, timeout)
while True:
    try:
        method, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = getattr(client, method)(*arguments)
    except Exception as exc:
        answer = exc
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.buffer.flush()
if make == "pyslurm":
    client.close()
"""


_ROAD = """
import pathlib, sys
from broker.config import SlurmRoad
from broker.slurm.road import choose
road = choose(SlurmRoad.AUTO, pathlib.Path(sys.argv[1]), 10.0, sys.argv[2])
print(type(road.client).__name__, road.why, sep=": ")
getattr(road.client, "close", lambda: None)()
"""


def automatic(rig):
    """The road that a daemon inside takes by itself, with the interpreter that has pyslurm."""
    return rig.site.run(sys.executable, "-c", _ROAD, f"{rig.site.folder}/etc/slurm.conf", PYTHON)


class Inside:
    """A client that lives inside the site, as one in the daemon would: every method of it is called there."""

    def __init__(self, site, make):
        self._process = subprocess.Popen(
            site.command(sys.executable, "-c", _CLIENT), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        self._put((make, site.folder / "etc/slurm.conf", TIMEOUT_S, PYTHON))

    def __getattr__(self, method):
        return lambda *arguments: self._call(method, arguments)

    def end(self):
        with self._process:
            self._process.stdin.close()

    def _call(self, method, arguments):
        with self._lock:
            self._put((method, arguments))
            answer = pickle.load(self._process.stdout)  # noqa: S301  # from our own script
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _put(self, what):
        self._process.stdin.write(pickle.dumps(what))
        self._process.stdin.flush()


class SiteRig:
    """One site for all tests of a class; each has jobs of its own there."""

    def __init__(self, make, prefix=None):
        self.site = SlurmSite(prefix)
        self.client = Inside(self.site, make)
        wait_for(self._is_up, "local-1 up", self.site.log)

    def close(self):
        self.client.end()
        self.site.close()

    def pending(self, *, name="job", comment="", limit=timedelta(hours=1)):
        minutes = "UNLIMITED" if limit is None else str(int(limit.total_seconds() // 60))
        words = [f"--time={minutes}", f"--job-name={name}", *([f"--comment={comment}"] if comment else [])]
        return self.site.submit("-p", "h100", "--begin=now+1hour", *words, "--wrap", "sleep 300")

    def booting(self, node):
        job = self.site.submit("-p", "h100", "-w", node, "--wrap", "sleep 300")
        wait_for(lambda: self.site.state(job) == "CONFIGURING", f"job {job} CONFIGURING", self.site.log)
        return job

    def drained(self, node, reason):
        self.site.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", f"Reason={reason}")

    def rested(self):
        """As the next test expects it."""
        self.site.try_("scontrol", "update", "NodeName=local-1", "State=RESUME")
        wait_for(self._is_up, "local-1 up", self.site.log)

    def not_before(self, job_id):
        asked = ("squeue", "-h", f"--jobs={job_id}", "-O", "eligibletime")
        said = self.site.run("env", "SLURM_TIME_FORMAT=%s", *asked)
        return None if said == "N/A" else datetime.fromtimestamp(int(said), UTC)

    @contextlib.contextmanager
    def away(self):
        pid = self.site.slurmctld_pid()
        self.site.run("kill", "-TERM", pid)
        wait_for(lambda: self.site.try_("kill", "-0", pid).returncode, "slurmctld's end", self.site.log)
        try:
            yield
        finally:
            self.site.start_slurmctld()
            wait_for(self._is_up, "local-1 up", self.site.log, 30.0)

    @contextlib.contextmanager
    def hung(self):
        pid = self.site.slurmctld_pid()
        self.site.run("kill", "-STOP", pid)
        try:
            yield
        finally:
            self.site.run("kill", "-CONT", pid)

    def _is_up(self):
        said = self.site.try_("scontrol", "--oneliner", "show", "node", "local-1").stdout
        return " State=IDLE " in said


class RealContract(SlurmContract):
    """What only a real slurmctld can show."""

    def test_the_tasks_of_an_array_are_found_by_their_own_numbers(self, rig):
        first = rig.site.submit("-p", "h100", "--begin=now+1hour", "--array=1-3", "--wrap", "true")
        rig.site.run("scontrol", "update", f"JobId={first}_2", "Comment=broker:spot=no")
        ids = {job.id for job in rig.client.jobs() if job.name == "wrap" and job.comment == "broker:spot=no"}
        assert len(ids) == 1 and first not in ids
        assert {job.id for job in rig.client.jobs(ids)} == ids
        assert [job.id for job in rig.client.jobs([first])] == [first]

    def test_what_is_said_changes_nothing_else_about_the_job(self, rig):
        job = rig.pending(comment="broker:spot=no")
        before = self._facts(rig, job)
        rig.client.set_admin_comment(job, "booting")
        at = datetime.now(UTC) + timedelta(hours=3)
        rig.client.start_not_before(job, at)
        after = self._facts(rig, job)
        changed = {key for key in before | after if before.get(key) != after.get(key)}
        assert {"AdminComment", "EligibleTime"} <= changed
        assert changed <= {
            "AdminComment",
            "EligibleTime",
            "StartTime",
            "EndTime",
            "Reason",
            "LastSchedEval",
            "AccrueTime",
        }

    def test_bytes_that_are_no_text_hide_no_jobs(self, rig):
        other = rig.pending()
        words = ("-p", "h100", "--begin=now+1hour", b"--job-name=\xff\xfe", "--wrap", "true")
        submitted = subprocess.run(
            rig.site.command("sbatch", "--parsable", *words), capture_output=True, timeout=30, check=True
        )
        odd = int(submitted.stdout)
        jobs = {job.id: job for job in rig.client.jobs()}
        assert other in jobs
        assert "\ufffd" in jobs[odd].name

    def test_a_slurmctld_that_hangs_is_told_in_time(self, rig):
        job = rig.pending()
        with rig.hung():
            began = time.monotonic()
            with pytest.raises(SlurmUnavailable, match="did not answer within"):
                rig.client.nodes()
            assert time.monotonic() - began < TIMEOUT_S + 2
        assert [each.id for each in rig.client.jobs([job])] == [job]

    @staticmethod
    def _facts(rig, job):
        words = rig.site.run("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)


class OneRig:
    MAKE, PREFIX = "commands", None

    @pytest.fixture(scope="class")
    def class_rig(self):
        rig = SiteRig(self.MAKE, self.PREFIX)
        yield rig
        rig.close()

    @pytest.fixture
    def rig(self, class_rig):
        yield class_rig
        class_rig.rested()


@needs_slurm
class TestCommands(OneRig, RealContract):
    """The host's own release."""

    @needs_pyslurm
    def test_a_daemon_leaves_a_pyslurm_of_another_release_alone(self, rig):
        assert automatic(rig).startswith("CommandClient: commands, since pyslurm ")


@needs_other
class TestCommandsOfAnotherRelease(OneRig, RealContract):
    PREFIX = Path(OTHER)


@needs_pyslurm
class TestPyslurm(OneRig, RealContract):
    MAKE, PREFIX = "pyslurm", Path(OTHER)

    def test_the_releases_fit_and_so_a_daemon_takes_it(self, rig):
        pyslurm, slurmctld = rig.client.releases()
        assert pyslurm.split(".")[:2] == slurmctld.split(".")[:2]
        assert automatic(rig) == f"PyslurmClient: pyslurm {pyslurm}, for slurmctld {slurmctld}"
