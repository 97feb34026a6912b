"""The broker's own parts on this host: the daemon, its folders, its ledger."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from broker import __version__
from broker.config import Settings
from broker.core.errors import BrokerError
from broker.core.leases import Lease, LeaseState
from broker.doctor import access, place
from broker.doctor.access import Want
from broker.doctor.findings import Check, Finding, fail, ok, skipped, warn

_RESTART = "systemctl restart broker"
_TAKEN_AFTER_S = 60
"""An intent is taken within a second; a daemon that needs longer than this is stuck."""
_SILENT_S = 300
"""The slowest activity passes every 30 s, a provider's time-outs included; dead-man renewals have their own pace."""
_STUCK = timedelta(minutes=10)
_SLACK = timedelta(minutes=2)
_LOW_MIB, _FULL_MIB = 2048, 256


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """What the daemon said of itself (`status`, a document of the API), or why it did not (`silence`)."""

    status: Mapping[str, Any] | None
    silence: str | None


def checks(
    settings: Settings, daemon: Daemon, leases: Callable[[], list[Lease]], now: datetime, slurm_user: str
) -> list[Check]:
    """`leases`: the living ones, read from the ledger; a BrokerError tells why it cannot be read."""
    site = settings.site
    return [
        Check(section="daemon", name="daemon", look=lambda: _daemon(settings, daemon)),
        Check(section="daemon", name="activities", look=lambda: judge_activities(daemon.status, now)),
        Check(section="daemon", name="knock", look=lambda: _knock(site.spool_dir / "knock")),
        Check(section="daemon", name="intents", look=lambda: _intents(site.spool_dir / "intents", daemon)),
        Check(section="daemon", name="leases", look=lambda: judge_leases(leases(), settings, now)),
        Check(
            section="files",
            name="folders",
            look=lambda: access.judge_all(
                "folders and sockets",
                (access.judge(want, place.entry(want.path)) for want in wants(settings, slurm_user)),
            ),
        ),
        Check(
            section="files",
            name="disk space",
            look=lambda: [judge_space(folder, _free_mib(folder)) for folder in (site.state_dir, site.spool_dir)],
        ),
    ]


def wants(settings: Settings, slurm_user: str) -> list[Want]:
    """Every folder and file of ours, as docs/explanation/architecture.md lists them."""
    site = settings.site
    intents = "what Slurm asks of us is left here"
    return [
        Want(
            path=settings.path,
            kind="file",
            group="broker",
            mode=0o640,
            never=0o027,
            why="the daemon reads it, others must not change it",
        ),
        Want(
            path=site.state_dir,
            kind="folder",
            owner="broker",
            group="broker",
            mode=0o700,
            never=0o027,
            why="the ledger and the keys lie here",
        ),
        Want(
            path=site.run_dir,
            kind="folder",
            owner="broker",
            group="broker",
            mode=0o1775,
            never=0o002,
            why="the sockets lie here; sticky, so that no part takes another's away",
        ),
        Want(path=site.spool_dir, kind="folder", mode=0o755, never=0o022, why="Slurm's programs go through it"),
        Want(
            path=site.spool_dir / "intents",
            kind="folder",
            owner=slurm_user,
            group="broker",
            mode=0o2770,
            never=0o007,
            why=intents,
        ),
        Want(
            path=site.spool_dir / "jobs",
            kind="folder",
            owner=slurm_user,
            group="broker",
            mode=0o2770,
            never=0o007,
            why="waiting jobs leave their files here",
        ),
        Want(
            path=site.spool_dir / "knock",
            kind="FIFO",
            owner="broker",
            group=place.primary_group(slurm_user),
            mode=0o620,
            never=0o007,
            why="Slurm's programs wake the daemon by it",
        ),
    ]


def judge_daemon(daemon: Daemon, running_since: float | None, config_changed: float) -> list[Finding]:
    """`running_since`, `config_changed`: seconds since the epoch; None: not known."""
    if daemon.status is None:
        seen = f"{daemon.silence}; its activities and health cannot be seen"
        return [fail("daemon", seen, "systemctl start broker; then: journalctl -u broker -n 50")]
    found = []
    version = daemon.status["version"]
    if version != __version__:
        found.append(warn("daemon", f"{version} runs, {__version__} is installed", _RESTART))
    if running_since is not None and config_changed > running_since + 1:
        found.append(warn("daemon", "broker.toml was changed after it was started: it reads it only then", _RESTART))
    if daemon.status["paused"]:
        found.append(warn("buying", f"paused: {daemon.status['paused']}", "broker resume"))
    count = daemon.status["living_leases"]
    return found or [ok("daemon", f"{version} answers, buys, {count} machines rented or on their way")]


def judge_activities(status: Mapping[str, Any] | None, now: datetime) -> list[Finding]:
    """Which of the daemon's activities fail or have not gone through for long."""
    if status is None:
        return [skipped("activities", "only the daemon can tell, and it does not answer")]
    found = []
    activities = status["activities"]
    for name, activity in sorted(activities.items()):
        last = activity["last_success_at"]
        if activity["last_error"]:
            seen = f"fails: {activity['last_error']}"
            found.append(warn(f"activity {name}", seen, f"journalctl -u broker | grep activity={name}"))
        elif last and name != "renew" and (now - datetime.fromisoformat(last)).total_seconds() > _SILENT_S:
            found.append(fail(f"activity {name}", f"has not gone through since {last}: it hangs", _RESTART))
    return found or [ok("activities", f"all {len(activities)} go through")]


def judge_knock(path: Path, reader: bool | None) -> Finding:
    """`reader`: whether somebody holds the FIFO open; None: there is no FIFO."""
    if reader is None:
        return skipped("knock", f"{path} is no FIFO (see files)")
    if reader:
        return ok("knock", "the daemon listens on it")
    return fail("knock", f"nobody listens on {path}: Slurm's calls wait for the next timer", _RESTART)


def judge_intents(folder: Path, waiting: list[float], bad: int, daemon_answers: bool) -> list[Finding]:
    """`waiting`: ages in seconds of what Slurm asked and nobody took; `bad`: how many could not be read."""
    found = []
    late = [age for age in waiting if age > _TAKEN_AFTER_S]
    if late and daemon_answers:
        seen = f"{len(late)} calls of Slurm wait, the oldest for {max(late):.0f} s, and the daemon answers"
        found.append(fail("intents", seen, "broker status; journalctl -u broker | grep activity=intents"))
    elif waiting and not daemon_answers:
        seen = f"{len(waiting)} calls of Slurm wait for the daemon; it carries them out when it starts"
        found.append(warn("intents", seen, "systemctl start broker"))
    if bad:
        seen = f"{bad} calls could not be read; their nodes were not woken or not given back"
        found.append(warn("intents", seen, f"ls -l {folder}/bad; when you have read them: rm {folder}/bad/*"))
    return found or [ok("intents", f"none waits longer than {_TAKEN_AFTER_S} s")]


def judge_space(folder: Path, free_mib: int) -> Finding:
    name = f"space in {folder}"
    mend = f"df -h {folder}; make room: a full disk stops all buying, and giving back is no longer recorded"
    if free_mib < _FULL_MIB:
        return fail(name, f"{free_mib} MiB free", mend)
    if free_mib < _LOW_MIB:
        return warn(name, f"{free_mib} MiB free", mend)
    return ok(name, f"{free_mib // 1024} GiB free")


def judge_ledger(where: str, current: str | None, head: str | None, daemon_answers: bool) -> Finding:
    """`current`: the schema's revision in the ledger; `head`: the one this program knows."""
    if current == head:
        return ok("ledger", f"{where} at revision {current}")
    if current is None:
        return fail(
            "ledger", f"{where} has no tables yet", "systemctl start broker; the daemon makes them at its start"
        )
    mend = _RESTART if daemon_answers else "systemctl start broker"
    return fail(
        "ledger",
        f"{where} is at revision {current}, this program at {head}",
        f"{mend} (it migrates an older ledger at its start; for a newer one install that release of broker again)",
    )


def judge_leases(leases: Iterable[Lease], settings: Settings, now: datetime) -> list[Finding]:
    """Living leases that stay where they are longer than anything explains."""
    living = list(leases)
    found = [finding for lease in living for finding in _stuck(lease, settings, now)]
    return found or [ok("leases", f"{len(living)} live, none is stuck")]


def _stuck(lease: Lease, settings: Settings, now: datetime) -> Iterator[Finding]:
    name, waited = f"lease {lease.id}", now - lease.state_since
    if lease.provider is not None and lease.provider not in settings.providers:
        seen = f"{lease.node}: its machine {lease.instance_id or ''} cannot be given back: [provider.{lease.provider}] is gone"
        yield fail(name, seen, f"put [provider.{lease.provider}] back into {settings.path}, then: {_RESTART}")
        return
    minutes = f"{waited.total_seconds() / 60:.0f} min"
    match lease.state:
        case LeaseState.REQUESTED | LeaseState.BOOTSTRAPPING if now > lease.deadline + _SLACK:
            seen = f"{lease.node} is {lease.state} since {minutes}, and Slurm has given it up"
            yield warn(name, seen, f"broker why {lease.node}; broker lease release {lease.id} --reason stuck")
        case LeaseState.LAUNCHING if waited > _STUCK:
            seen = f"{lease.node} is launching since {minutes}: the answer to the purchase is not known"
            yield warn(
                name, seen, f"broker lease show {lease.id}; look at {lease.provider}'s console for {lease.label}"
            )
        case LeaseState.DRAINING | LeaseState.RELEASING if waited > _STUCK:
            seen = f"{lease.node} is {lease.state} since {minutes}: its machine {lease.instance_id} costs money"
            yield fail(name, seen, f"broker lease show {lease.id}; end {lease.label} in {lease.provider}'s console")


def _daemon(settings: Settings, daemon: Daemon) -> list[Finding]:
    running_since = None
    if daemon.status is not None:
        with contextlib.suppress(OSError):
            pid = place.server_of(settings.site.run_dir / "api.sock")
            running_since = place.started_at(pid) if pid else None
    found = judge_daemon(daemon, running_since, settings.path.stat().st_mtime)
    if daemon.status is not None:
        path = settings.site.run_dir / "api.sock"
        want = Want(path=path, kind="socket", owner="broker", mode=0o666, never=0, why="users ask the daemon by it")
        found += [each for each in [access.judge(want, place.entry(path))] if each.mend]
    return found


def _knock(path: Path) -> list[Finding]:
    return [judge_knock(path, _reader(path))]


def _reader(path: Path) -> bool | None:
    seen = place.entry(path)
    if seen is None or seen.kind != "FIFO":
        return None
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return False
        raise
    return True


def _intents(folder: Path, daemon: Daemon) -> list[Finding]:
    now = time.time()
    waiting = []
    for path in folder.iterdir():
        if path.suffix == ".json":
            with contextlib.suppress(FileNotFoundError):  # taken meanwhile
                waiting.append(now - path.stat().st_mtime)
    bad = sum(1 for _ in (folder / "bad").iterdir()) if (folder / "bad").is_dir() else 0
    return judge_intents(folder, waiting, bad, daemon.status is not None)


def _free_mib(folder: Path) -> int:
    try:
        seen = os.statvfs(folder)
    except FileNotFoundError:
        raise BrokerError(f"{folder} is missing (see files)") from None
    return seen.f_bavail * seen.f_frsize // 1024**2
