"""broker-as-user: gives one node one user's home for as long as that user's job runs there. Root, no network.

`python -m broker.privileged.as_user --socket PATH --exports /var/lib/broker-exports --allow-user broker`

The state is the file system: a line of `.keys/<user>` is an export, the bind mount stays as long as there is a line.
"""

import argparse
import base64
import binascii
import grp
import ipaddress
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.privileged import sessions
from broker.privileged.server import Answer, Operation, Server, Wrong, log, run, text, uid_of

_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.IGNORECASE)
_LEASE = re.compile(r"l[0-9a-f]{10}")
_LINE = re.compile(r'^restrict,from="(?P<address>[0-9.]+)" ssh-ed25519 \S+ (?P<lease>l[0-9a-f]{10})$')
_MOUNT_S = 30.0
_NOLOGIN = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false"})


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Whose home may be exported: uid at least `minimum_uid`; with `group`, its members only."""

    minimum_uid: int = 1000
    group: str | None = None


class Exports:
    """The folder of exports. `<user>/home` is the bind mount sshd shows, `.keys/<user>` who may see it."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self._folder = folder
        self._rules = rules
        for made, mode in ((folder, 0o755), (folder / ".keys", 0o755)):
            made.mkdir(mode=mode, parents=True, exist_ok=True)
            made.chmod(mode)

    def operations(self) -> dict[str, Operation]:
        """What the domain does, by the request's `op`."""
        return {"export_home": self._export, "unexport_home": self._unexport, "exports": self._list}

    def recover(self) -> None:
        """After a reboot the mounts are gone and the keys are not: mount again; and drop mounts without a key."""
        for keys in self._key_files():
            try:
                self._mount(self._account(keys.name))
            except Wrong as exc:
                log(event="not_recovered", user=keys.name, error=exc)
        for mounted in _mounts_below(self._folder):
            user = mounted.parent.name
            if not self._lines(user):
                self._unmount(user)

    def _export(self, request: Mapping[str, Any]) -> Answer:
        lease = _match(request, "lease", _LEASE)
        key = _ssh_key(request)
        address = _address(request)
        entry = self._account(_match(request, "user", _USER))
        user = entry.pw_name
        groups = [[grp.getgrgid(gid).gr_name, gid] for gid in os.getgrouplist(user, entry.pw_gid) if _has_name(gid)]
        self._mount(entry)
        line = f'restrict,from="{address}" {key} {lease}'
        before = self._lines(user)
        after = [*(other for other in before if not other.endswith(f" {lease}")), line]
        if after != before:
            self._write(user, after)
            log(event="home_exported", user=user, lease_id=lease, address=address)
        return {
            "home": entry.pw_dir,
            "uid": entry.pw_uid,
            "gid": entry.pw_gid,
            "groups": groups,
            "gecos": entry.pw_gecos,
            "shell": entry.pw_shell or "/bin/sh",
        }

    def _unexport(self, request: Mapping[str, Any]) -> Answer:
        user, lease = _match(request, "user", _USER), _match(request, "lease", _LEASE)
        before = self._lines(user)
        after = [line for line in before if not line.endswith(f" {lease}")]
        if after != before:
            self._write(user, after)
            log(event="home_unexported", user=user, lease_id=lease)
        # A key that is taken away ends no open session.
        for line in before:
            if line not in after and (found := _LINE.match(line)):
                sessions.end(self._folder / user, found["address"])
        if not after:
            sessions.end(self._folder / user, None)
            self._unmount(user)
        return {}

    def _list(self, _request: Mapping[str, Any]) -> Answer:
        found = [
            {"user": keys.name, "lease": match["lease"]}
            for keys in self._key_files()
            for match in map(_LINE.match, self._lines(keys.name))
            if match
        ]
        return {"exports": found}

    def _account(self, user: str) -> pwd.struct_passwd:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise Wrong(f"user {user}: there is no such account here") from None
        if entry.pw_uid < self._rules.minimum_uid:
            raise Wrong(f"user {user}: uid {entry.pw_uid} is below {self._rules.minimum_uid}, a system account")
        if entry.pw_shell in _NOLOGIN:
            raise Wrong(f"user {user}: the account may not log in ({entry.pw_shell})")
        if self._rules.group is not None and not _in_group(entry, self._rules.group):
            raise Wrong(f"user {user} is not in the group {self._rules.group}, whose homes may be exported")
        return entry

    def _mount(self, entry: pwd.struct_passwd) -> None:
        """The home, by bind mount, in a folder that only root can change: sshd's chroot wants that."""
        home, place = Path(entry.pw_dir), self._folder / entry.pw_name / "home"
        if not home.is_absolute() or not home.is_dir():
            raise Wrong(f"user {entry.pw_name}: home {home} is not a folder here")
        real = home.resolve()
        for folder in {*home.parents, *real.parents}:
            seen = folder.stat()
            if seen.st_uid != 0 or seen.st_mode & 0o022:
                raise Wrong(
                    f"user {entry.pw_name}: others than root may write to {folder}, so home {home} could be swapped"
                )
        owner = home.stat().st_uid
        if owner != entry.pw_uid:
            raise Wrong(f"user {entry.pw_name}: home {home} belongs to uid {owner}, not to {entry.pw_uid}")
        if place in _mounts_below(self._folder):
            if _same(home, place):
                return
            self._unmount(entry.pw_name)
        for made in (place.parent, place):
            made.mkdir(mode=0o755, exist_ok=True)
        _run("mount", "--bind", "-o", "nosuid,nodev", str(real), str(place))
        if not _same(home, place):
            self._unmount(entry.pw_name)
            raise Wrong(f"user {entry.pw_name}: home {home} changed while it was mounted")

    def _unmount(self, user: str) -> None:
        place = self._folder / user / "home"
        if place in _mounts_below(self._folder):
            # Lazy: a session that is just ending must not keep the next export of another lease waiting.
            _run("umount", "-l", str(place))
        for folder in (place, place.parent):
            if folder.is_dir():
                folder.rmdir()

    def _key_files(self) -> list[Path]:
        return sorted(path for path in (self._folder / ".keys").iterdir() if _USER.fullmatch(path.name))

    def _lines(self, user: str) -> list[str]:
        try:
            return (self._folder / ".keys" / user).read_text().splitlines()
        except FileNotFoundError:
            return []

    def _write(self, user: str, lines: list[str]) -> None:
        """In one move: sshd reads the file at any moment. No lines: no file."""
        target = self._folder / ".keys" / user
        if not lines:
            target.unlink(missing_ok=True)
            return
        part = target.with_name(f"{user}~")
        with part.open("w") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="broker-as-user", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--exports", type=Path, default=Path("/var/lib/broker-exports"))
    parser.add_argument("--allow-user", required=True, help="who may ask, besides root")
    parser.add_argument("--group", help="group of the socket (mode 0660)")
    parser.add_argument("--allow-group", help="export homes of this group's members only")
    parser.add_argument("--minimum-uid", type=int, default=1000)
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.exit("broker-as-user must be started as root: it mounts users' homes")
    if missing := _missing_capabilities():
        log(event="warning", missing=",".join(missing), effect="mounts fail or sftp sessions outlive their export")
    exports = Exports(options.exports, Rules(minimum_uid=options.minimum_uid, group=options.allow_group))
    exports.recover()
    allowed = frozenset({uid_of(options.allow_user)})
    server = Server(options.socket, exports.operations(), allowed, options.group)
    log(event="ready", domain="as_user", exports=options.exports, socket=options.socket)
    run(server)


_CAPABILITIES = {"dac_override": 1, "dac_read_search": 2, "kill": 5, "sys_ptrace": 19, "sys_admin": 21}
"""To mount and write below root's folders; to see which sessions are inside an export, and to end them."""


def _missing_capabilities() -> list[str]:
    status = Path("/proc/self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _match(request: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = text(request, name)
    if not pattern.fullmatch(value):
        raise Wrong(f"{name} {value[:80]!r} is not a {name}'s name")
    return value


def _ssh_key(request: Mapping[str, Any]) -> str:
    words = text(request, "public_key").split(" ")
    try:
        raw = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        raw = b""
    # A length-prefixed "ssh-ed25519", then a length-prefixed key of 32 bytes: 51 bytes in all.
    if words[0] != "ssh-ed25519" or not raw.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x20") or len(raw) != 51:
        raise Wrong("public_key is not an ed25519 key as OpenSSH writes it (ssh-ed25519 AAAA…)")
    return f"{words[0]} {words[1]}"


def _address(request: Mapping[str, Any]) -> str:
    value = text(request, "address")
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise Wrong(f"address {value!r} is not an IPv4 address") from None


def _in_group(entry: pwd.struct_passwd, group: str) -> bool:
    try:
        return grp.getgrnam(group).gr_gid in os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        raise Wrong(f"--allow-group {group}: there is no such group here") from None


def _has_name(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def _same(one: Path, other: Path) -> bool:
    return os.path.samestat(one.stat(), other.stat())


def _mounts_below(folder: Path) -> set[Path]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    places = (re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[1]) for line in lines)
    return {Path(place) for place in places if place.startswith(f"{folder}/")}


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOUNT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Wrong(f"{command[0]}: {exc}") from exc
    if done.returncode:
        raise Wrong(f"{' '.join(command[:2])}: {done.stderr.strip() or done.returncode}")


if __name__ == "__main__":
    main()
