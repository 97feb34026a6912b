"""The root of the command line."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from broker import __version__
from broker.cli.failures import INTERRUPTED, USAGE, exit_code
from broker.cli.lazy import Lazy, LazyGroup
from broker.cli.words import printable
from broker.core.errors import BrokerError

_COMMANDS = {
    "init": Lazy(target="broker.cli.offline.init:init", help="Write broker.toml by asking and looking."),
    "slurm-conf": Lazy(
        target="broker.cli.offline.slurm_conf:slurm_conf", help="Print, check or install the Slurm side."
    ),
    "node-bundle": Lazy(
        target="broker.cli.offline.node_bundle:node_bundle", help="Pack Slurm for the rented machines."
    ),
    "serve": Lazy(target="broker.cli.serve:serve", help="Run the daemon."),
    "reap": Lazy(target="broker.cli.offline.reap:reap", help="End what nobody needs, also with the daemon dead."),
    "doctor": Lazy(target="broker.cli.offline.doctor:doctor", help="What is broken here, each with its mend."),
    "status": Lazy(target="broker.cli.status:status", help="The daemon at a glance."),
    "offers": Lazy(target="broker.cli.offers:offers", help="What could be bought now."),
    "signal": Lazy(target="broker.cli.offline.signal:signal", help="Carbon intensity and prices of power."),
    "why": Lazy(target="broker.cli.why:why", help="What happened to a job or node, and what is awaited."),
    "lease": Lazy(target="broker.cli.lease:lease", help="The purchases: list, show, release, log."),
    "node": Lazy(target="broker.cli.node:node", help="Rented nodes: a shell on one."),
    "provider": Lazy(target="broker.cli.provider:provider", help="The credentials: list, show, test, pause, resume."),
    "pause": Lazy(target="broker.cli.buying:pause", help="Stop all buying; running machines are kept."),
    "resume": Lazy(target="broker.cli.buying:resume", help="Buy again."),
    "ledger": Lazy(target="broker.cli.ledger:ledger", help="The ledger as a whole: back it up, bring it back."),
    "report": Lazy(target="broker.cli.offline.report:report", help="What jobs used, from exports of sacct alone."),
    "usage": Lazy(target="broker.cli.usage:usage", help="Exports of sacct into the ledger."),
    "rate": Lazy(target="broker.cli.rate:rate", help="What usage is charged at: list, set."),
    "invoice": Lazy(target="broker.cli.invoice:invoice", help="A month's charges: preview, close, export, push."),
    "stripe": Lazy(target="broker.cli.stripe:stripe", help="Who collects them: how they stand, ways to pay, credit."),
    "simulate": Lazy(
        target="broker.cli.offline.simulate:simulate", help="Replay a trace of jobs: cost, carbon, waits."
    ),
    "sandbox": Lazy(target="broker.cli.offline.sandbox:sandbox", help="A real Slurm with emulated clouds, here."),
}


class _Root(LazyGroup):
    """Turns every way a command can end into one line on stderr and an exit code."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        sys.exit(self._ended(list(sys.argv[1:] if args is None else args), prog_name or "broker", *rest, **extra))

    def _ended(self, args: list[str], *rest: Any, **extra: Any) -> int:
        try:
            code = super().main(args, *rest, **extra)
        except click.Abort as exc:
            if isinstance(exc.__cause__ or exc.__context__, EOFError):
                click.echo("broker: the input ended before every question was answered", err=True)
                return USAGE
            click.echo("Interrupted.", err=True)
            return INTERRUPTED
        except click.ClickException as exc:
            exc.show()
            return exc.exit_code
        except BrokerError as exc:
            click.echo(f"broker: {printable(exc) or type(exc).__name__}", err=True)
            return exit_code(exc)
        return code if isinstance(code, int) else 0


@click.group("broker", cls=_Root, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="broker")
@click.option(
    "--socket",
    envvar="BROKER_SOCKET",
    metavar="PATH",
    help="The daemon's socket (or BROKER_SOCKET); else /run/broker/api.sock, else that of a sandbox in ./.sandbox.",
)
@click.pass_context
def cli(ctx: click.Context, socket: str | None) -> None:
    """Cloud GPUs as elastic Slurm partitions.

    Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 daemon or provider unreachable, 130 interrupted.
    """
    ctx.obj = socket


def main() -> None:
    """Run the command line and exit."""
    cli.main()
