"""What slurmctld's errors mean to us. Commands and libslurm use the same words for them."""

import re

from broker.core.errors import BrokerError, SlurmUnavailable

_AWAY = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|timed out|reset)"
    r"|Zero Bytes were transmitted|standby mode|Transport endpoint|No route to host"
    r"|Communication connection failure|temporarily unable|rate limit",
    re.IGNORECASE,
)
_NO_SUCH_JOB = re.compile(r"Invalid job id specified", re.IGNORECASE)


class NoSuchJob(BrokerError):
    """slurmctld has never heard of the job, or has forgotten it."""


def error_of(doing: str, said: str) -> BrokerError:
    """NoSuchJob, SlurmUnavailable, or a BrokerError: Slurm refused. `said` is one line."""
    if _NO_SUCH_JOB.search(said):
        return NoSuchJob(f"{doing}: {said}")
    if _AWAY.search(said):
        return SlurmUnavailable(f"{doing}: {said}")
    return BrokerError(f"{doing}: Slurm refused: {said}")


def line(text: str) -> str:
    """One line that Slurm takes as one value."""
    return " ".join(text.split())
