"""`broker usage`: what Slurm's accounting said, in the ledger."""

from datetime import tzinfo
from pathlib import Path

import click

from broker.cli.options import TimeZone, config_option
from broker.cli.output import json_option, print_json, say


@click.group()
def usage() -> None:
    """What Slurm's accounting said of jobs, kept in the ledger. As root or as the daemon's user."""


@usage.command("import")
@click.argument("files", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), nargs=-1, required=True)
@click.option("--columns", help="The columns of exports that have no header, as jobid,state,….", metavar="A,B,…")
@click.option(
    "--time-zone", type=TimeZone(), help="Whose wall clock the times are where they are not seconds; without it: UTC."
)
@config_option
@json_option
def import_(
    files: tuple[Path, ...], columns: str | None, time_zone: tzinfo | None, config_path: Path, as_json: bool
) -> int:
    """Write the runs in exports of sacct (`-`: standard input) into the ledger, those that are over.

    It may be repeated, and exports may overlap: what is known adds nothing, and where Slurm has corrected itself the
    correction is an entry of its own. Exit 1: not one line could be read.
    """
    from broker.usage_import import import_usage  # noqa: PLC0415  # imports half the world

    done = import_usage(config_path, files, columns=columns.split(",") if columns else None, zone=time_zone)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "rows_read": done.rows,
                "rows_bad": len(done.bad),
                "rows_of_steps": done.steps,
                "not_over": done.unfinished,
                "without_submit": done.unplaced,
                "new": done.added.new,
                "corrected": done.added.corrected,
                "known": done.added.known,
                "older": done.added.older,
                "bad_lines": [{"file": bad.source, "line": bad.number, "reason": bad.reason} for bad in done.bad[:20]],
            }
        )
    else:
        say(
            f"{done.rows} rows read: {done.added.new} runs are new, {done.added.corrected} corrected, {done.added.known} were "
            f"known, {done.added.older} are older than what is known; {done.unfinished} are not over yet."
        )
        if done.unplaced:
            say(f"! {done.unplaced} runs have no Submit and were left out: export that column, too", hanging="  ")
        for bad in done.bad[:20]:
            say(f"! {bad.source}, line {bad.number}: {bad.reason}", hanging="  ")
        if len(done.bad) > 20:
            say(f"! and {len(done.bad) - 20} more bad lines", hanging="  ")
    return 1 if done.bad and len(done.bad) == done.rows else 0
