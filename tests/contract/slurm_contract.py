"""What every road to slurmctld owes, whatever stands behind it. A subclass brings the `rig` fixture."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from broker.core.errors import BrokerError, SlurmUnavailable
from broker.slurm.base import SlurmClient

UNKNOWN = 99999
NAMES = [
    "a|b c,d=e",
    "x\n   UserId=mallory(0) JobState=COMPLETED",
    "Prüfung 名前 ☃",
    "None",
    "(null)",
    "'; $(id) \"",
    "h100-[1-4]",
]


class SlurmRig(Protocol):
    """A cluster whose node local-1 is up, and whose cloud nodes h100-1 … h100-4 have no machines."""

    client: SlurmClient

    def pending(self, *, name: str = "job", comment: str = "", limit: timedelta | None = timedelta(hours=1)) -> int:
        """A job of root in partition h100 that waits."""

    def booting(self, node: str) -> int:
        """A job that Slurm has woken `node` for, once it is CONFIGURING."""

    def drained(self, node: str, reason: str) -> None:
        """`node` is drained, for `reason`."""

    def not_before(self, job_id: int) -> datetime | None:
        """From when on Slurm tries the job; None: at once."""

    def away(self) -> AbstractContextManager[None]:
        """slurmctld is not there."""


class SlurmContract:
    def test_every_node_is_told_with_its_state_and_flags(self, rig):
        nodes = {node.name: node for node in rig.client.nodes()}
        assert set(nodes) >= {"local-1", "h100-1", "h100-2", "h100-3", "h100-4"}
        assert nodes["local-1"].is_up and nodes["local-1"].reason is None
        assert (nodes["h100-4"].state, nodes["h100-4"].flags) == ("IDLE", {"CLOUD", "POWERED_DOWN"})
        assert not nodes["h100-4"].is_up

    def test_a_reason_is_told_without_its_signature(self, rig):
        rig.drained("local-1", "swap [fan] a=b | c; Comment is soon")
        (node,) = [node for node in rig.client.nodes() if node.name == "local-1"]
        assert "DRAIN" in node.flags
        assert node.reason == "swap [fan] a=b | c; Comment is soon"

    @pytest.mark.parametrize("name", NAMES)
    def test_a_job_is_read_as_it_is_whatever_its_name_says(self, rig, name):
        wanted = rig.pending(name=name, comment="broker:spot=no,zones=a+b")
        (job,) = rig.client.jobs([wanted])
        assert (job.id, job.name, job.comment) == (wanted, name, "broker:spot=no,zones=a+b")
        assert (job.user, job.uid, job.partition, job.state, job.nodes) == ("root", 0, "h100", "PENDING", ())
        assert job in rig.client.jobs()

    def test_a_waiting_job_has_neither_begun_nor_ended(self, rig):
        (job,) = rig.client.jobs([rig.pending()])
        assert job.submitted_at is not None and job.submitted_at.tzinfo is UTC
        assert (job.started_at, job.ended_at, job.comment, job.admin_comment, job.batch) == (None, None, "", "", True)

    @pytest.mark.parametrize(
        "limit", [timedelta(minutes=1), timedelta(hours=1), timedelta(days=2, hours=3, minutes=4), None]
    )
    def test_a_time_limit_is_told_and_none_is_unlimited(self, rig, limit):
        (job,) = rig.client.jobs([rig.pending(limit=limit)])
        assert job.time_limit == limit

    def test_jobs_are_told_all_or_some_and_unknown_ones_are_left_out(self, rig):
        first, second = rig.pending(), rig.pending()
        assert {first, second} <= {job.id for job in rig.client.jobs()}
        assert {job.id for job in rig.client.jobs([first, second, UNKNOWN])} == {first, second}
        assert [job.id for job in rig.client.jobs([second])] == [second]
        assert rig.client.jobs([UNKNOWN]) == []
        assert rig.client.jobs([]) == []

    def test_what_an_owner_is_told_can_be_read_changed_and_taken_back(self, rig):
        wanted = rig.pending()
        for said in ("broker: booting an H100,\nexpected 14:05 = soon | Zürich", "broker: \tready", "", "again", " "):
            rig.client.set_admin_comment(wanted, said)
            assert rig.client.jobs([wanted])[0].admin_comment == " ".join(said.split())

    def test_nobody_is_told_when_the_job_is_unknown(self, rig):
        rig.client.set_admin_comment(UNKNOWN, "nobody")
        rig.client.set_admin_comment(UNKNOWN, "")

    def test_a_job_is_put_off_and_called_again(self, rig):
        wanted = rig.pending()
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
        rig.client.start_not_before(wanted, at)
        assert rig.not_before(wanted) == at
        rig.client.requeue_now(wanted)
        later = rig.not_before(wanted)
        assert later is None or later <= datetime.now(UTC) + timedelta(seconds=5)

    def test_a_held_job_can_be_let_go_by_its_owner(self, rig):
        wanted = rig.pending()
        rig.client.hold(wanted)
        assert rig.client.jobs([wanted])[0].reason == "JobHeldUser"

    @pytest.mark.parametrize("deed", ["requeue", "requeue_now", "start_not_before", "hold"])
    def test_what_cannot_be_done_to_an_unknown_job_is_an_error_that_names_it(self, rig, deed):
        more = [datetime.now(UTC) + timedelta(hours=1)] if deed == "start_not_before" else []
        with pytest.raises(BrokerError, match=str(UNKNOWN)) as caught:
            getattr(rig.client, deed)(UNKNOWN, *more)
        assert not isinstance(caught.value, SlurmUnavailable)

    def test_a_job_is_cancelled_and_that_twice_is_no_error(self, rig):
        wanted = rig.pending()
        rig.client.cancel(wanted)
        assert rig.client.jobs([wanted])[0].state == "CANCELLED"
        rig.client.cancel(wanted)
        rig.client.cancel(UNKNOWN)
        assert wanted not in {job.id for job in rig.client.jobs() if job.state == "PENDING"}

    def test_nodes_that_are_given_up_lose_their_jobs(self, rig):
        lost = rig.booting("h100-3")
        (job,) = rig.client.jobs([lost])
        assert (job.state, job.nodes) == ("CONFIGURING", ("h100-3",))
        rig.client.power_down_force(["h100-3"], "broker: the machine\nvanished")
        (node,) = [node for node in rig.client.nodes() if node.name == "h100-3"]
        assert not node.is_up
        assert node.reason == "broker: the machine vanished"
        (job,) = rig.client.jobs([lost])
        assert (job.state, job.nodes) == ("PENDING", ())

    def test_a_job_that_has_its_nodes_can_be_started_anew_and_one_that_waits_cannot(self, rig):
        wanted = rig.booting("h100-2")
        rig.client.requeue(wanted)
        (job,) = rig.client.jobs([wanted])
        # Its nodes may stand beside it until they have ended it.
        assert job.state == "PENDING" and set(job.nodes) <= {"h100-2"}, job
        with pytest.raises(BrokerError, match=str(wanted)):
            rig.client.requeue(wanted)

    def test_a_node_that_slurm_has_not_is_an_error_that_names_it(self, rig):
        with pytest.raises(BrokerError, match="nobody-1") as caught:
            rig.client.power_down_force(["nobody-1"], "x")
        assert not isinstance(caught.value, SlurmUnavailable)

    def test_an_absent_slurmctld_is_told_by_every_call_and_its_return_needs_nothing(self, rig):
        wanted = rig.pending()
        later = datetime.now(UTC) + timedelta(hours=1)
        calls = {
            "nodes": (),
            "jobs": ([wanted],),
            "power_down_force": (["h100-4"], "x"),
            "set_admin_comment": (wanted, "x"),
            "requeue": (wanted,),
            "requeue_now": (wanted,),
            "start_not_before": (wanted, later),
            "hold": (wanted,),
            "cancel": (wanted,),
        }
        with rig.away():
            for call, arguments in calls.items():
                with pytest.raises(SlurmUnavailable):
                    getattr(rig.client, call)(*arguments)
        assert [job.id for job in rig.client.jobs([wanted])] == [wanted]
        assert {node.name for node in rig.client.nodes()} >= {"h100-4"}
