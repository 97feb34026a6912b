"""`broker ledger`: the purchase ledger as a whole, kept and brought back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import config_option
from broker.cli.output import json_option, print_json, say, table

if TYPE_CHECKING:
    from broker.ledger import Restored

_WORDS = {"kept": "kept", "adopted": "adopted", "ended": "given back", "dropped": "dropped"}


@click.group()
def ledger() -> None:
    """The purchase ledger as a whole: a backup, and the way back from it. As root or as the daemon's user."""


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def backup(file: Path, config_path: Path, as_json: bool) -> None:
    """Write the whole ledger to FILE while the daemon goes on.

    The same file restores into SQLite and PostgreSQL. It is mode 0600, and it refuses to replace a file.
    """
    from broker.ledger import backup as write  # noqa: PLC0415  # imports half the world

    written = write(config_path, file)
    header, counts = written.header, written.counts()
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "file": str(file),
                "cluster": header.cluster,
                "schema": header.schema,
                "taken_at": header.taken_at.isoformat(),
                "rows": counts,
            }
        )
        return
    say(f"{file}: {counts.get('leases', 0)} leases, {sum(counts.values())} rows in all, schema {header.schema}.")


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Also over a ledger that has living leases; a copy of it is kept.")
@click.option("--dry-run", is_flag=True, help="Judge every lease and machine, and change nothing.")
@config_option
@json_option
def restore(file: Path, force: bool, dry_run: bool, config_path: Path, as_json: bool) -> None:
    """Put the backup FILE in the ledger's place. The daemon must be stopped.

    Machines bought since the backup are adopted by their label, with the jobs that run on them; one whose node cannot
    be found is given back, as is a lease whose machine is gone.
    """
    from broker.ledger import restore as bring_back  # noqa: PLC0415

    done = bring_back(config_path, file, force=force, dry_run=dry_run)
    if as_json:
        print_json(_document(done, dry_run))
    else:
        _print(done, dry_run)


def _document(done: "Restored", dry_run: bool) -> dict[str, Any]:
    header = done.backup.header
    return {
        "schema_version": 1,
        "dry_run": dry_run,
        "cluster": header.cluster,
        "taken_at": header.taken_at.isoformat(),
        "rows": done.backup.counts(),
        "kept_copy": str(done.kept_copy) if done.kept_copy else None,
        "leases": [
            {
                "id": verdict.lease.id,
                "fate": verdict.fate.value,
                "state": verdict.lease.state.value,
                "node": verdict.lease.node,
                "provider": verdict.lease.provider,
                "instance_id": verdict.lease.instance_id,
                "job_id": verdict.lease.job_id,
                "reason": verdict.reason,
            }
            for verdict in done.survey.verdicts
        ],
        "homes_taken_away": [{"user": stray.user, "lease_id": stray.lease} for stray in done.survey.strays],
    }


def _print(done: "Restored", dry_run: bool) -> None:
    counts = done.backup.counts()
    taken = done.backup.header.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    verb = "Would restore" if dry_run else "Restored"
    say(f"{verb} {counts.get('leases', 0)} leases as they were at {taken}.")
    if done.survey.verdicts:
        rows = [
            (each.lease.id, each.lease.node, _WORDS[each.fate.value], each.lease.state.value, each.reason)
            for each in done.survey.verdicts
        ]
        table(("LEASE", "NODE", "FATE", "STATE", "WHY"), rows)
    else:
        say("No lease is alive, and no machine has our label.")
    for stray in done.survey.strays:
        say(f"The home of {stray.user} is taken away from lease {stray.lease}: no job of theirs runs there.")
    if done.kept_copy is not None:
        say(f"The ledger that stood there before: {done.kept_copy}")
    if not dry_run:
        say("Start the daemon now; `broker lease list` shows the leases.")
