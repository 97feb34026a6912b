"""What one connection to a node's slurmd tells."""

import errno
import socket
from enum import StrEnum
from ipaddress import IPv4Address

SLURMD_PORT = 6818
"""Slurm's default."""
# Too short: a loaded machine or a lost packet counts as silence. Too long: silent nodes hold the workers.
_ANSWER_SECONDS = 3.0
_NO_ROAD = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)


class Sign(StrEnum):
    """What a knock at a node's slurmd told."""

    ALIVE = "alive"
    REFUSED = "refused"
    SILENT = "silent"
    UNKNOWN = "unknown"
    """The trouble is on this side: it says nothing about the node."""


def knock(address: IPv4Address, port: int = SLURMD_PORT) -> Sign:
    """One connection to slurmd, closed at once."""
    try:
        socket.create_connection((str(address), port), timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return Sign.REFUSED
    except OSError as exc:
        return Sign.UNKNOWN if exc.errno in _NO_ROAD else Sign.SILENT
    return Sign.ALIVE
