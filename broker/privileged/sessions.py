"""Ends sftp sessions: sshd looks at keys only when a session begins."""

import contextlib
import os
import re
import signal
import socket
import struct
from pathlib import Path

_SOCKET = re.compile(r"socket:\[(\d+)\]")


def end(root: Path, address: str | None) -> None:
    """End every process whose root folder is `root`; with `address`, only those connected to that IPv4 address.

    sshd's process for a session is in the chroot and holds the connection, so this finds sessions and nothing else.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if (process / "root").readlink() == root and (address is None or _is_connected(process, address)):
                os.kill(int(process.name), signal.SIGTERM)


def _is_connected(process: Path, address: str) -> bool:
    """Its own /proc/PID/net: the sshd may live in another network namespace than we do."""
    inodes = set()
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if found := _SOCKET.fullmatch(str(descriptor.readlink())):
                inodes.add(found[1])
    rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    return any(row[9] in inodes and _ipv4(row[2]) == address for row in rows)


def _ipv4(field: str) -> str:
    """`0500A80A:D431` as the kernel prints it (host byte order) → `10.168.0.5`."""
    return socket.inet_ntoa(struct.pack("=I", int(field.partition(":")[0], 16)))
