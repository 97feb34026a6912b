"""What we need of slurm.conf, parameter by parameter: the fragment writes it, the linter checks it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from broker.slurm.directives import Value
from broker.slurm.site import SlurmSite


class Need(StrEnum):
    REQUIRED = "required"
    ADVISED = "advised"


class Fit(StrEnum):
    """How the site's own value is held against ours."""

    EXACT = "exact"
    AT_LEAST = "at_least"
    ENTRIES = "entries"
    CHAIN = "chain"
    """A program: ours, or one that calls ours."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """`value`: what we write where the site has nothing; for ENTRIES what its comma-separated list must contain."""

    parameter: str
    value: str
    need: Need
    why: str
    fit: Fit = Fit.EXACT
    site_wide: bool = False
    """It changes something for nodes and jobs that are not ours, too."""

    def missing(self, own: Value | None) -> tuple[str, ...]:
        """For ENTRIES: our entries that `own` lacks. An entry with a value (`bf_interval=10`) may have another one."""
        keys = {entry.partition("=")[0].lower() for entry in own.entries} if own else set()
        return tuple(entry for entry in self.value.split(",") if entry.partition("=")[0].lower() not in keys)

    def suffices(self, own: Value | None, scripts: Mapping[str, str]) -> bool:
        """Whether the site's own value will do. `scripts`: path → text of the programs it names."""
        if own is None:
            return False
        match self.fit:
            case Fit.ENTRIES:
                return not self.missing(own)
            case Fit.AT_LEAST:
                return own.text.upper() in {"INFINITE", "UNLIMITED"} or (
                    own.text.isdecimal() and int(own.text) >= int(self.value)
                )
            case Fit.CHAIN:
                return own.text == self.value or self.value in scripts.get(own.text, "")
            case Fit.EXACT:
                return own.text.lower() == self.value.lower()

    def mended(self, own: Value | None) -> str:
        """The line as it should read, the site's own entries kept."""
        if own is None or self.fit is not Fit.ENTRIES:
            return f"{self.parameter}={self.value}"
        return f"{self.parameter}={','.join([*own.entries, *self.missing(own)])}"


def wants(site: SlurmSite) -> list[Want]:
    """Every parameter we need or advise, for the site's release of Slurm."""
    return [*_programs(site), *_times(site), *_lists(site), *_wires(site)]


def _programs(site: SlurmSite) -> list[Want]:
    folder = site.install_dir
    return [
        Want(
            parameter="ResumeProgram",
            value=f"{folder}/resume",
            need=Need.REQUIRED,
            fit=Fit.CHAIN,
            why="hands Slurm's call for nodes to the broker, in milliseconds",
        ),
        Want(
            parameter="SuspendProgram",
            value=f"{folder}/suspend",
            need=Need.REQUIRED,
            fit=Fit.CHAIN,
            why="tells the broker to give idle nodes back",
        ),
        Want(
            parameter="ResumeFailProgram",
            value=f"{folder}/resume-failed",
            need=Need.REQUIRED,
            fit=Fit.CHAIN,
            why="Slurm never suspends a node that missed ResumeTimeout: without this its machine costs money for ever",
        ),
        Want(
            parameter="PrologSlurmctld",
            value=f"{folder}/prolog_slurmctld.sh",
            need=Need.REQUIRED,
            fit=Fit.CHAIN,
            why="starts a job the moment its nodes and home are there (else up to 30 s later, and without its home); "
            "other partitions' jobs pass at once",
        ),
        *_task_prolog(site),
        Want(
            parameter="JobSubmitPlugins",
            value="lua",
            need=Need.REQUIRED,
            fit=Fit.ENTRIES,
            why="job_submit.lua calls broker.lua, which refuses wrong wishes and heterogeneous jobs at submit",
        ),
    ]


def _task_prolog(site: SlurmSite) -> list[Want]:
    """Only where the site asks for it: a node that lacks the file fails every task, measured on 22.05."""
    if not site.task_prolog:
        return []
    return [
        Want(
            parameter="TaskProlog",
            value=f"{site.install_dir}/task_prolog.sh",
            need=Need.ADVISED,
            fit=Fit.CHAIN,
            site_wide=True,
            why="tells MPI and NCCL on rented nodes which interface reaches the job's other nodes; says nothing elsewhere. "
            "EVERY node must have the file: Slurm fails each task on one that lacks it",
        )
    ]


def _times(site: SlurmSite) -> list[Want]:
    return [
        Want(
            parameter="ResumeTimeout",
            value=str(max(60, site.resume_timeout_s)),
            need=Need.REQUIRED,
            fit=Fit.AT_LEAST,
            site_wide=True,
            why="srun and salloc give up after 5 x (this + SuspendTimeout), whatever the partition says",
        ),
        Want(
            parameter="SuspendTimeout",
            value=str(max(30, site.suspend_timeout_s)),
            need=Need.REQUIRED,
            fit=Fit.AT_LEAST,
            site_wide=True,
            why="srun and salloc give up after 5 x (this + ResumeTimeout), whatever the partition says",
        ),
        Want(
            parameter="ResumeRate",
            value="0",
            need=Need.REQUIRED,
            why="no limit: any other value cuts one job's nodes into several calls, some minutes late",
        ),
        Want(
            parameter="SuspendRate",
            value="0",
            need=Need.REQUIRED,
            why="no limit: idle machines that wait for their turn cost money",
        ),
    ]


def _lists(site: SlurmSite) -> list[Want]:
    some = [
        Want(
            parameter="SlurmctldParameters",
            value="enable_configless,idle_on_node_suspend",
            need=Need.REQUIRED,
            fit=Fit.ENTRIES,
            site_wide=True,
            why="nodes fetch their configuration from slurmctld; a suspended node is idle, whatever it was before",
        ),
        Want(
            parameter="SchedulerParameters",
            value="nohold_on_prolog_fail,sbatch_wait_nodes,salloc_wait_nodes",
            need=Need.REQUIRED,
            fit=Fit.ENTRIES,
            site_wide=True,
            why="a job whose home could not be brought is tried again, not held; it starts with all its nodes there",
        ),
    ]
    if any(shape.accelerator for shape in site.shapes):
        some.append(
            Want(
                parameter="GresTypes",
                value="gpu",
                need=Need.REQUIRED,
                fit=Fit.ENTRIES,
                site_wide=True,
                why="without it Slurm knows no GPUs",
            )
        )
    if site.release < (23, 2):
        some.append(
            Want(
                parameter="PrivateData",
                value="cloud",
                need=Need.REQUIRED,
                fit=Fit.ENTRIES,
                site_wide=True,
                why="shows powered-down nodes to users and to the broker (always so from 23.02)",
            )
        )
    return some


def _wires(site: SlurmSite) -> list[Want]:
    some = [
        Want(
            parameter="ReturnToService",
            value="2",
            need=Need.ADVISED,
            site_wide=True,
            why="a node that was down returns by registering",
        ),
        Want(
            parameter="SrunPortRange",
            value="60001-60500",
            need=Need.ADVISED,
            site_wide=True,
            why="srun listens where the overlay's firewall lets nodes call back",
        ),
        Want(
            parameter="MessageTimeout",
            value="60",
            need=Need.ADVISED,
            fit=Fit.AT_LEAST,
            site_wide=True,
            why="slurmctld's messages to rented nodes cross the internet",
        ),
        Want(
            parameter="TCPTimeout",
            value="15",
            need=Need.ADVISED,
            fit=Fit.AT_LEAST,
            site_wide=True,
            why="connections to rented nodes cross the internet",
        ),
        Want(
            parameter="BatchStartTimeout",
            value="180",
            need=Need.ADVISED,
            fit=Fit.AT_LEAST,
            site_wide=True,
            why="the first start on a fresh machine reads everything from a slow disk",
        ),
        Want(
            parameter="DebugFlags",
            value="Power",
            need=Need.ADVISED,
            fit=Fit.ENTRIES,
            why="slurmctld's log tells every wake-up and power-down, which `broker why` cannot see",
        ),
    ]
    if site.release < (23, 11):
        some.append(
            Want(
                parameter="TreeWidth",
                value="65533",
                need=Need.ADVISED,
                fit=Fit.AT_LEAST,
                site_wide=True,
                why="slurmctld speaks to each node itself: machines of different providers cannot reach one another",
            )
        )
    return some
