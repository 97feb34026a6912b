"""Keys and identities: munge, the daemon's SSH key, the export sshd's key, the numbers of system users."""

import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from broker.config import Settings
from broker.core.errors import BrokerError
from broker.doctor import place
from broker.doctor.findings import Check, Finding, fail, ok, warn
from broker.doctor.place import Entry, Ran
from broker.provisioning.bundle import Bundle, SystemUser, find_bundle, verify

_SECTION = "keys"
MUNGED_KEY = Path("/etc/munge/munge.key")


def checks(settings: Settings, slurm_user: str, munge: Callable[[], Ran]) -> list[Check]:
    return [
        Check(section=_SECTION, name="munge", look=lambda: [judge_munge(munge())]),
        Check(section=_SECTION, name="munge key", look=lambda: _munge_key(settings)),
        Check(section=_SECTION, name="SSH key", look=lambda: _ssh_key(settings)),
        Check(section=_SECTION, name="node bundle", look=lambda: _bundle(settings, slurm_user)),
    ]


def packed(settings: Settings) -> tuple[Bundle | None, frozenset[str]]:
    """The bundle that nodes get and the names of its files; nothing where there is none or it is damaged."""
    try:
        found = find_bundle(settings.node.bundle_dir)
        return found, verify(found.path)
    except (BrokerError, OSError):
        return None, frozenset()


def judge_munge(ran: Ran) -> Finding:
    """`ran`: a credential made here and decoded here."""
    if ran.code == 0:
        return ok("munge", "a credential made here is decoded here")
    if ran.code == place.NOT_INSTALLED:
        return fail("munge", ran.said, "apt-get install munge")
    return fail("munge", f"no credential can be made or decoded: {ran.said}", "systemctl restart munge")


def judge_munge_key(path: Path, seen: Entry | None, reader_groups: frozenset[str], same: bool | None) -> list[Finding]:
    """The copy of the key that nodes get. `same`: whether munged here uses it, too; None: could not be seen."""
    name = "munge key"
    copy = Path("/etc/broker/munge.key") if path == MUNGED_KEY else path
    mend = f"install -o broker -g broker -m 0400 {MUNGED_KEY} {copy} && systemctl restart broker"
    if copy != path:
        mend = f'munge_key = "{copy}" in [node]; then: {mend}'
    if seen is None:
        return [fail(name, f"{path} is missing: the daemon does not start without it", mend)]
    found = []
    if seen.mode & 0o007:
        seen_text = f"{path} is mode {seen.mode:04o}: every user here can read it, and so be any user of the cluster"
        found.append(fail(name, seen_text, f"chmod o-rwx {path}; then give the cluster a new key"))
    if not (seen.owner == "broker" or (seen.mode & 0o040 and seen.group in reader_groups)):
        found.append(
            fail(name, f"{path} is {seen.owner}:{seen.group} {seen.mode:04o}: the daemon's user cannot read it", mend)
        )
    if same is False:
        found.append(fail(name, f"{path} differs from {MUNGED_KEY}: nodes could not speak to slurmctld", mend))
    return found or [ok(name, f"{path} {seen.owner} {seen.mode:04o}" + (", munged's own" if same else ""))]


def judge_ssh_key(path: Path, seen: Entry | None) -> Finding:
    """The key that opens rented machines."""
    name = "SSH key"
    if seen is None:
        return warn(name, f"{path} is not there yet: the daemon makes it at its start", "systemctl start broker")
    if seen.owner != "broker" or seen.mode & 0o077 or not seen.mode & 0o400:
        seen_text = f"{path} is {seen.owner}:{seen.group} {seen.mode:04o}; it opens every rented machine"
        return fail(name, seen_text, f"chown broker:broker {path} && chmod 0600 {path}")
    return ok(name, f"{path} {seen.owner} {seen.mode:04o}")


def judge_users(bundle: Bundle, slurm_user: str, here: Mapping[str, tuple[int, int] | None]) -> list[Finding]:
    """System users' numbers here against those that nodes get. `here`: name → uid and gid."""
    found = []
    mend = f"broker node-bundle build --slurm-user {slurm_user} && systemctl restart broker"
    if bundle.slurm is not None and bundle.slurm.name != slurm_user:
        seen = f"SlurmUser is {slurm_user}, the bundle was built for {bundle.slurm.name}"
        found.append(fail("SlurmUser on nodes", seen, mend))
    if bundle.slurm is None and slurm_user != "root":
        found.append(fail("SlurmUser on nodes", f"the bundle does not know the user {slurm_user}", mend))
    for user in (bundle.slurm, bundle.munge):
        if user is None or user.name not in here:
            continue
        numbers = here[user.name]
        if numbers != (user.uid, user.gid):
            seen = f"is {_numbers(numbers)} here, {user.uid}:{user.gid} on nodes"
            make = warn if user is bundle.munge else fail  # munge's number never leaves a machine
            found.append(make(f"user {user.name}", seen, mend))
    if here.get("broker") is None:
        mend = "useradd --system --user-group --home-dir /var/lib/broker --shell /usr/sbin/nologin broker"
        found.append(fail("user broker", "there is no such account here", mend))
    return found or [ok("system users", f"slurm {_user(bundle.slurm)}, munge {_user(bundle.munge)}, here and on nodes")]


def judge_arch(bundle: Bundle, machine: str) -> list[Finding]:
    """`machine`: this host's CPU family. The bundle carries its own C library, so the image's does not matter."""
    if bundle.arch != machine:
        seen = f"{bundle.path.name} is for {bundle.arch}, this controller is {machine}"
        return [warn("node bundle", seen, f"broker node-bundle build, on a host with the machines' CPU ({machine}?)")]
    return [ok("node bundle", f"{bundle.path.name}, Slurm {bundle.slurm_version}, {bundle.arch}, undamaged")]


def round_trip() -> Ran:
    """A munge credential made and decoded here; how that ended."""
    made = place.run(["munge", "-n"])
    return made if made.code else place.run(["unmunge"], stdin=made.out)


def _munge_key(settings: Settings) -> list[Finding]:
    path = settings.node.munge_key
    seen = place.entry(path)
    same = None
    if seen is not None and path != MUNGED_KEY:
        try:
            same = _digest(path) == _digest(MUNGED_KEY)
        except (FileNotFoundError, PermissionError):
            same = None
    return judge_munge_key(path, seen, place.groups_of("broker"), same)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ssh_key(settings: Settings) -> list[Finding]:
    path = settings.site.state_dir / "ssh" / "id_ed25519"
    return [judge_ssh_key(path, place.entry(path))]


def _bundle(settings: Settings, slurm_user: str) -> list[Finding]:
    folder = settings.node.bundle_dir
    mend = f"broker node-bundle build --output {folder} && systemctl restart broker"
    place.entry(folder)  # a folder that may not be entered is none to say "there is no bundle" about
    try:
        found = find_bundle(folder)
        verify(found.path)
    except BrokerError as exc:
        return [fail("node bundle", str(exc).partition("; ")[0], mend)]
    here = {name: place.uid_and_gid(name) for name in (slurm_user, "munge", "broker")}
    return [*judge_arch(found, platform.machine()), *judge_users(found, slurm_user, here)]


def _user(user: SystemUser | None) -> str:
    return f"{user.uid}:{user.gid}" if user else "root"


def _numbers(numbers: tuple[int, int] | None) -> str:
    return f"{numbers[0]}:{numbers[1]}" if numbers else "no account"
