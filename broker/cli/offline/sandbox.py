"""`broker sandbox`: a real Slurm with an emulated cloud on this machine, to try, to rehearse and to test."""

import json
import os
import sys
from pathlib import Path

import click

from broker.cli.output import json_option, print_json, say, table
from broker.core.errors import BrokerError
from broker.sandbox.rig import Sandbox

_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
_USER = click.option("--user", default="alice", show_default=True, help="alice, bob, root or broker.")


@click.group()
def sandbox() -> None:
    """A real Slurm with an emulated cloud on this machine.

    Everything lies in ./.sandbox (or BROKER_SANDBOX) and in namespaces of its own; `down` leaves nothing behind.
    """


@sandbox.command()
@click.option(
    "--boot-seconds", type=click.FloatRange(0, 3600), default=3.0, show_default=True, help="Emulated boot time."
)
@click.option(
    "--limits",
    type=click.Choice(["published", "off"]),
    default="published",
    show_default=True,
    help="The providers' rate limits: as published (Lambda: 1 launch per 12 s), or none.",
)
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A JSON list of misbehaviours, such as [{"kind": "sold_out", "credential": "lambda-a", "times": 1}].',
)
@click.option(
    "--database",
    type=click.Choice(["sqlite", "postgres"]),
    default="sqlite",
    show_default=True,
    help="Where the ledger lies.",
)
def up(boot_seconds: float, limits: str, faults: Path | None, database: str) -> None:
    """Start it: Slurm with accounting, a login host, an emulated Lambda cloud and an emulated Vast.ai, the daemon."""
    try:
        script = json.loads(faults.read_text()) if faults else []
    except ValueError as exc:
        raise click.BadParameter(f"{faults} is not JSON: {exc}", param_hint="--faults") from exc
    Sandbox().up(boot_seconds=boot_seconds, limits=limits, faults=script, database=database)
    click.echo(
        "Try: broker sandbox sbatch --partition=cloud --gres=gpu:h100:1 --wrap 'nvidia-smi -L > here.txt'", err=True
    )


@sandbox.command()
def down() -> None:
    """End it. The logs stay in .sandbox/log."""
    rig = Sandbox()
    was_up = rig.down()
    click.echo("sandbox: down; nothing is left but its logs" if was_up else "sandbox: was not up", err=True)


@sandbox.command()
@json_option
def status(as_json: bool) -> None:
    """Its parts, nodes and machines: which live, and what a dead part said last."""
    rig = Sandbox()
    parts = rig.parts()
    living = [row for row in rig.bill() if row["terminated_at"] is None] if rig.is_up() else []
    nodes, silence = _nodes(rig)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "up": rig.is_up(),
                "directory": str(rig.layout.directory),
                "parts": [{"name": part.name, "pid": part.pid, "alive": part.alive} for part in parts],
                "nodes": [{"name": name, "state": state} for name, state in nodes.items()],
                "living_instances": [row["instance_id"] for row in living],
            }
        )
        return
    if not parts:
        say("The sandbox is not up. `broker sandbox up` starts it.")
        return
    table(("PART", "PID", "STATE"), [(p.name, str(p.pid), "up" if p.alive else "DEAD") for p in parts])
    for part in parts:
        if not part.alive:
            say(f"{part.name} said last:")
            for line in rig.log_tail(part.name):
                say(line, indent="  ")
    say("")
    if silence:
        say(silence)
    else:
        table(("NODE", "STATE"), nodes.items())
    say("")
    say(f"Living instances at the emulated provider: {len(living)}. Logs: {rig.layout.log}")
    if living:
        rows = [[str(row[key]) for key in ("name", "credential", "instance_type", "region")] for row in living]
        table(("INSTANCE", "CREDENTIAL", "TYPE", "REGION"), rows)


@sandbox.command(context_settings=_PASS_ON)
@_USER
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def shell(user: str, words: tuple[str, ...]) -> None:
    """A login shell on the login host; what follows is bash's own, such as -c 'squeue --me'."""
    _become(user, ["/bin/bash", "--login", *words])


@sandbox.command(context_settings=_PASS_ON)
@_USER
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def sbatch(user: str, words: tuple[str, ...]) -> None:
    """sbatch on the login host, with all its own options."""
    _become(user, ["sbatch", *words])


@sandbox.command(context_settings=_PASS_ON)
@_USER
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def srun(user: str, words: tuple[str, ...]) -> None:
    """srun on the login host, with all its own options."""
    _become(user, ["srun", *words])


def _nodes(rig: Sandbox) -> tuple[dict[str, str], str | None]:
    """Slurm's nodes, and why they cannot be told: a dead slurmctld is among the things that one asks for."""
    try:
        return (rig.nodes() if rig.is_up() else {}), None
    except BrokerError as exc:
        return {}, str(exc)


def _become(user: str, argv: list[str]) -> None:
    """Take this process's place, so that the terminal, signals and exit code are the program's own."""
    command = Sandbox().command(user, argv)
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606
