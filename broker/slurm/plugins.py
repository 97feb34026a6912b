"""The programs that Slurm calls, with this site's values written into them."""

import re
from dataclasses import dataclass

from broker.core.errors import BrokerError
from broker.slurm.site import SlurmSite
from broker.templating import shipped

LINKS = ("resume", "suspend", "resume-failed")
"""Names under which Slurm calls `shim.py`; the name says what is asked."""

# How much longer than ResumeTimeout a job may be held: Slurm's own scan has 10 s steps, and the home comes last.
_MARGIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Plugin:
    name: str
    text: str
    executable: bool


def plugins(site: SlurmSite) -> list[Plugin]:
    """The files of `install_dir`. BrokerError: a shipped file lacks the line to be filled in."""
    partitions = " ".join(sorted(site.partitions))
    spool, limit = str(site.spool), str(site.resume_timeout_s + _MARGIN_S)
    return [
        Plugin(name="shim.py", text=_filled("shim.py", {"SPOOL": f'"{spool}"'}), executable=True),
        Plugin(
            name="prolog_slurmctld.sh",
            text=_filled(
                "prolog_slurmctld.sh",
                {"SPOOL": spool, "PARTITIONS": f"'{partitions}'", "LIMIT": limit, "CONF": str(site.conf)},
            ),
            executable=True,
        ),
        Plugin(name="task_prolog.sh", text=task_prolog(site.interface), executable=True),
        Plugin(
            name="broker.lua", text=_filled("broker.lua", {"local PARTITIONS": f'"{partitions}"'}), executable=False
        ),
    ]


def task_prolog(interface: str) -> str:
    """TaskProlog for nodes whose overlay is `interface`."""
    return _filled("task_prolog.sh", {"INTERFACE": interface})


def job_submit(site: SlurmSite) -> str:
    """A job_submit.lua for a site that has none."""
    return _filled("job_submit.lua", {"local BROKER": f'"{site.install_dir}/broker.lua"'})


def _filled(name: str, values: dict[str, str]) -> str:
    text = shipped("slurm_plugins", name).read_text(encoding="utf-8")
    for variable, value in values.items():
        # No backslash passes `_plain`, so the value means itself in a replacement.
        text, filled = re.subn(rf"(?m)^({re.escape(variable)} ?= ?).*$", rf"\g<1>{_plain(value)}", text)
        if filled != 1:
            raise BrokerError(f"slurm_plugins/{name} has {filled} lines `{variable} =`: install broker again")
    return text


def _plain(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9 ./_'\"-]*", value):
        raise BrokerError(f"{value} cannot stand in a program for Slurm: use letters, digits and . / _ - in paths")
    return value
