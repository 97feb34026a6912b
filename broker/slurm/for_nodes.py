"""What a rented node must be told of slurm.conf before slurmd can ask for it: the controllers' names, and folders."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from broker.slurm.directives import SlurmConf

_SPOOL = "/var/spool/slurmd"


@dataclass(frozen=True, kw_only=True)
class NodeNeeds:
    """`controllers`: host names that must resolve on the node; `folders`: what slurmd writes into."""

    controllers: tuple[str, ...]
    folders: tuple[str, ...]


def node_needs(conf: SlurmConf) -> NodeNeeds:
    """From the site's slurm.conf, its includes already in it."""
    hosts = [value.text.partition("(")[0] for value in conf.parameters.get("slurmctldhost", ())]
    spool = conf.value("SlurmdSpoolDir")
    files = [value.text for name in ("SlurmdLogFile", "SlurmdPidFile") if (value := conf.value(name)) is not None]
    wanted = [spool.text if spool else _SPOOL, *(str(PurePosixPath(file).parent) for file in files)]
    return NodeNeeds(
        controllers=tuple(dict.fromkeys(host for host in hosts if host)),
        folders=tuple(dict.fromkeys(_known(folder) for folder in wanted)),
    )


def _known(folder: str) -> str:
    """Up to the part with %n or %h, which stand for the node's name: slurmd itself makes that one."""
    return folder if "%" not in folder else str(PurePosixPath(folder.partition("%")[0] + "x").parent)
