"""Looking at this host: files, programs, sockets. Changes nothing."""

import grp
import os
import pwd
import socket
import stat
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_INSTALLED = 127
NO_ANSWER = 124
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of any kind, links followed. `owner` and `group` are names, or numbers where there is no name."""

    path: Path
    kind: str
    owner: str
    group: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a program ended. `code` is NOT_INSTALLED or NO_ANSWER where it did not end by itself."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it said, in one line."""
        return " ".join((self.err or self.out).split()) or f"exit status {self.code}"


def entry(path: Path) -> Entry | None:
    """What lies at `path`; None: nothing. PermissionError: this user may not look."""
    try:
        seen = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Entry(
        path=path,
        kind=_KINDS.get(stat.S_IFMT(seen.st_mode), "something else"),
        owner=_name_of_uid(seen.st_uid),
        group=_name_of_gid(seen.st_gid),
        mode=stat.S_IMODE(seen.st_mode),
    )


def run(command: Sequence[str], *, stdin: str = "", slurm_conf: Path | None = None, timeout: float = 10.0) -> Ran:
    """Run a program that only tells."""
    environment = {"PATH": _PATH, "LC_ALL": "C"} | ({"SLURM_CONF": str(slurm_conf)} if slurm_conf else {})
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(code=NO_ANSWER, out="", err=f"{command[0]}: no answer in {timeout:g} s")
    except OSError as exc:
        return Ran(code=NOT_INSTALLED, out="", err=f"{command[0]}: {exc.strerror}")
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def refusal(address: str, port: int, timeout: float = 3.0) -> str | None:
    """Why TCP does not connect to `address`:`port`; None: it does."""
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except TimeoutError:
        return f"no answer in {timeout:g} s"
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def server_of(path: Path) -> int | None:
    """The process that listens on a Unix socket; None: nobody. PermissionError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, TimeoutError):
            return None
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def started_at(pid: int) -> float:
    """When a process was started, in seconds since the epoch. OSError: it is gone."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime")
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def uid_and_gid(user: str) -> tuple[int, int] | None:
    """None: there is no such account here."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def primary_group(user: str) -> str:
    """The name of an account's own group; the account's where there is none here."""
    found = uid_and_gid(user)
    return user if found is None else _name_of_gid(found[1])


def groups_of(user: str) -> frozenset[str]:
    """Names of the groups of an account; empty: there is no such account here."""
    found = uid_and_gid(user)
    return frozenset() if found is None else frozenset(_name_of_gid(gid) for gid in os.getgrouplist(user, found[1]))


def _name_of_uid(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_gid(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
