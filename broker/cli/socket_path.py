"""Which daemon a command speaks to."""

import os
import stat
from pathlib import Path

import click

from broker.cli.client import Client

SITE = Path("/run/broker/api.sock")
_IN_SANDBOX = Path("ctl/run/broker/api.sock")


def client(ctx: click.Context) -> Client:
    """The daemon named by --socket or BROKER_SOCKET, else the site's, else a sandbox's (said on stderr)."""
    named: str | None = ctx.find_root().obj
    if named:
        return Client(Path(named).absolute())
    if SITE.exists():
        return Client(SITE)
    sandbox = Path(os.environ.get("BROKER_SANDBOX") or ".sandbox").absolute() / _IN_SANDBOX
    if _is_ours(sandbox):
        click.echo(f"(asking the sandbox in {sandbox.parents[3]})", err=True)
        return Client(sandbox)
    return Client(SITE)


def _is_ours(path: Path) -> bool:
    """In a sandbox of this user or of root: in a folder of somebody else's a stranger may have put a socket."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and path.parents[3].stat().st_uid in {0, os.getuid()}
