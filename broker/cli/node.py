"""`broker node`."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from broker.cli.failures import Unreachable
from broker.cli.socket_path import client
from broker.core.errors import BrokerError, NotFound, Refused

_SSH_FAILED = 255


@click.group()
def node() -> None:
    """Rented nodes."""


@node.command(context_settings={"allow_interspersed_args": False})
@click.argument("name", metavar="NODE")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.pass_context
def ssh(ctx: click.Context, name: str, command: tuple[str, ...]) -> None:
    """Open a shell on the machine behind NODE.

    With COMMAND, run that and exit with its code. One word is given to the machine's shell as it is, several are kept
    apart: `-- ls -l "my file"`.

    Only the host key that was pinned when the machine was bought is believed. Run it on the controller, as a user who
    may read the broker's key.
    """
    if command[:1] == ("--",):  # left there, because a node's name ends the options
        command = command[1:]
    access = client(ctx).get("nodes", name, "access")
    key = Path(access["key_file"])
    if not os.access(key, os.R_OK):
        raise _no_key(key)
    with tempfile.TemporaryDirectory(prefix="broker-ssh-") as folder:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.write_text(f"{access['node']} {_host_key(access)}\n")
        code = _run(ssh_command(access, known_hosts, command))
    if code == _SSH_FAILED:
        raise Unreachable(f"ssh could not reach {name} at {access['address']}; `broker why {name}` tells its state")
    ctx.exit(code)


def ssh_command(access: dict[str, Any], known_hosts: Path, command: tuple[str, ...]) -> list[str]:
    """The argument list for ssh: only the pinned key is believed, and nothing of the user's own ssh settings counts."""
    options = {
        "HostKeyAlias": access["node"],
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentityFile": access["key_file"],
        "IdentitiesOnly": "yes",
        "PasswordAuthentication": "no",
        "ForwardAgent": "no",
        "ConnectTimeout": "15",
        "LogLevel": "ERROR",
    }
    arguments = ["ssh", "-F", "/dev/null"]
    for option, value in options.items():
        arguments += ["-o", f"{option}={value}"]
    arguments += ["-p", str(access["port"]), "-l", access["user"], "--", access["address"]]
    if command:
        arguments.append(command[0] if len(command) == 1 else shlex.join(command))
    return arguments


def _run(arguments: list[str]) -> int:
    # Not exec: the folder with the pinned key must go afterwards. Ctrl-C is ssh's, as if it ran alone.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(arguments, check=False).returncode
    except FileNotFoundError:
        raise BrokerError("there is no ssh on this host; install openssh-client") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return 128 - code if code < 0 else code


def _host_key(access: dict[str, Any]) -> str:
    found = re.match(r"(?:ssh|ecdsa)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+", access["host_key"])
    if not found:
        raise BrokerError(f"the host key of {access['node']} is not pinned yet; try again once it has booted")
    return found[0]


def _no_key(key: Path) -> BrokerError:
    try:
        key.stat()
    except FileNotFoundError:
        return NotFound(
            f"{key} is not on this host; run the command on the controller (in a sandbox: `broker sandbox shell`)"
        )
    except PermissionError:
        pass
    return Refused(f"{key} may not be read by this user; run the command as root")
