"""`broker ledger backup` and `restore`: what is done to the ledger as a whole, without the daemon."""

import contextlib
import io
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker.app import make_world, outside_of, utc_now
from broker.config import load
from broker.core.errors import BrokerError, Refused
from broker.db import leases
from broker.db.backup import Backup, dump, has_ledger, read
from broker.db.backup import load as load_backup
from broker.db.engine import connect, current_revision, reading
from broker.db.owner import own
from broker.provisioning.ssh import host_key_at
from broker.reconcile.adopt import ScanHostKey, Survey, settle, survey, take_strays_away
from broker.reconcile.world import World


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did, or would do. `kept_copy`: where the ledger that stood there before was backed up to."""

    backup: Backup
    survey: Survey
    kept_copy: Path | None


def backup(config: Path, target: Path, clock: Callable[[], datetime] = utc_now) -> Backup:
    """Write the ledger to `target` (mode 0600), all of it or nothing; the daemon may go on. Refused: it is there."""
    settings = load(config)
    if target.exists():
        raise Refused(f"{target} is there already; name another file")
    content = io.BytesIO()
    with as_owner_of(settings.site.state_dir):
        engine = connect(settings.site.ledger, settings.site.database_password)
        try:
            written = dump(engine, settings.site.cluster, clock(), content)
        finally:
            engine.dispose()
    _write(target, content.getvalue())
    return written


def restore(
    config: Path,
    source: Path,
    *,
    force: bool,
    dry_run: bool,
    clock: Callable[[], datetime] = utc_now,
    scan: ScanHostKey = host_key_at,
) -> Restored:
    """Put the backup in the ledger's place and take in what was bought since. Nothing is changed until all is judged.

    Refused: a daemon runs, the ledger has living leases (without `force`), or the backup is another cluster's.
    BrokerError, ProviderError, SlurmUnavailable: the file is no good, or somebody who must be asked does not answer.
    """
    settings = load(config)
    try:
        content = source.read_bytes()
    except OSError as exc:
        raise BrokerError(f"{source} cannot be read: {exc.strerror}") from exc
    saved = read(str(source), content)
    if saved.header.cluster != settings.site.cluster:
        raise Refused(
            f"{source} is the ledger of cluster {saved.header.cluster}, and this is {settings.site.cluster}: "
            "their machines have other labels"
        )
    with as_owner_of(settings.site.state_dir):
        engine = connect(settings.site.ledger, settings.site.database_password, create=True)
        try:
            world = make_world(settings, engine, outside_of(settings, clock), clock)
            return bring_back(world, saved, force=force, dry_run=dry_run, copies=settings.site.state_dir, scan=scan)
        finally:
            engine.dispose()


def bring_back(
    world: World, saved: Backup, *, force: bool, dry_run: bool, copies: Path, scan: ScanHostKey = host_key_at
) -> Restored:
    """`restore` of a checked backup; `copies`: the folder for a copy of the ledger that stands there now."""
    owner = own(world.engine)
    try:
        with reading(world.engine) as db:
            stands = has_ledger(db) and current_revision(db) is not None
            living = leases.count_living(db) if stands else 0
        if living and not force:
            raise Refused(
                f"the ledger has {living} living leases; --force puts the backup in its place all the same (a copy is kept)"
            )
        judged = _judge(world, saved, scan)
        if dry_run:
            return Restored(backup=saved, survey=judged, kept_copy=None)
        kept = _keep_copy(world, copies) if stands else None
        with world.engine.begin() as db:
            load_backup(db, saved)
            settle(db, judged.verdicts, world.clock())
        take_strays_away(world, judged.strays)
        return Restored(backup=saved, survey=judged, kept_copy=kept)
    finally:
        owner.release()


def _judge(world: World, saved: Backup, scan: ScanHostKey) -> Survey:
    """On a ledger of its own: a backup that cannot be loaded is found out before anything is lost."""
    with tempfile.TemporaryDirectory(prefix="broker-restore-") as folder:
        scratch = connect(f"sqlite:///{folder}/ledger.db", create=True)
        try:
            with scratch.begin() as db:
                load_backup(db, saved)
            with reading(scratch) as db:
                return survey(world, db, saved.header.taken_at, scan)
        finally:
            scratch.dispose()


def _keep_copy(world: World, folder: Path) -> Path | None:
    now, content = world.clock(), io.BytesIO()
    if not dump(world.engine, world.site.cluster, now, content).counts().get("leases"):
        return None
    target = folder / f"ledger-before-restore-{now:%Y%m%dT%H%M%SZ}.jsonl"
    _write(target, content.getvalue())
    return target


def _write(target: Path, content: bytes) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        Path(part.name).rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise BrokerError(f"{target} cannot be written: {exc.strerror}; name a file in a folder that exists") from exc


@contextlib.contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Act as the daemon's user when root calls: its files stay its own, and PostgreSQL's socket knows it."""
    try:
        status = folder.stat()
    except OSError as exc:
        raise BrokerError(f"[site] state_dir = {folder}: {exc.strerror}") from exc
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    owner, groups = pwd.getpwuid(status.st_uid), os.getgroups()
    os.setgroups(os.getgrouplist(owner.pw_name, owner.pw_gid))
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
