"""Which way to slurmctld the daemon takes: pyslurm where it fits, the commands otherwise."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from broker.config import SlurmRoad
from broker.core.errors import BrokerError, ConfigError
from broker.slurm.base import SlurmClient
from broker.slurm.client import CommandClient
from broker.slurm.pyslurm_client import PyslurmClient

log = logging.getLogger("broker.slurm")


@dataclass(frozen=True, kw_only=True)
class Road:
    """`why`: the road's name and what it was taken for, for people."""

    client: SlurmClient
    why: str


def choose(wish: SlurmRoad, slurm_conf: Path, timeout: float, python: str = sys.executable) -> Road:
    """The road for as long as the process lives. ConfigError: pyslurm is insisted on and does not fit.

    `timeout` is in seconds, for each call. `python` is the interpreter that may have pyslurm.
    """
    commands = CommandClient(slurm_conf, timeout)
    if wish is SlurmRoad.COMMANDS:
        return Road(client=commands, why="commands, as configured")
    native = PyslurmClient(python, slurm_conf, timeout)
    misfit = _misfit(native)
    if misfit is None:
        pyslurm, slurmctld = native.releases()
        road = Road(client=native, why=f"pyslurm {pyslurm}, for slurmctld {slurmctld}")
    elif wish is SlurmRoad.PYSLURM:
        native.close()
        raise ConfigError(
            f'[slurm] road = "pyslurm": {misfit}; install the pyslurm of your Slurm\'s release beside the broker, or '
            'write road = "auto"'
        )
    else:
        native.close()
        road = Road(client=commands, why=f"commands, since {misfit}")
    log.info("slurm_road road=%r", road.why)
    return road


def _misfit(native: PyslurmClient) -> str | None:
    """None: it fits."""
    try:
        pyslurm, slurmctld = native.releases()
    except BrokerError as exc:
        return str(exc)
    if pyslurm.split(".")[:2] != slurmctld.split(".")[:2]:
        return f"pyslurm {pyslurm} is for another release than slurmctld's {slurmctld}"
    return None
