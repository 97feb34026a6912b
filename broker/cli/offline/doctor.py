"""`broker doctor`: works with the daemon dead, since that is when it is needed."""

import socket
import textwrap
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from broker.cli.client import Client
from broker.cli.offline.slurm_conf import programs_text, site_from_settings
from broker.cli.options import config_option
from broker.cli.output import json_option, print_json
from broker.cli.words import printable
from broker.config import InvalidConfig, Problem, Settings, load
from broker.core.errors import BrokerError, ConfigError, NotFound, Refused
from broker.doctor import controller, keys, node, slurm
from broker.doctor.findings import AS_ROOT, Finding, Status, examine, fail
from broker.doctor.ledger import Ledger
from broker.doctor.site import Daemon
from broker.provisioning.ssh import open_shell
from broker.slurm.inlined import read_inlined

_WIDTH = 100
_NAMES = 26
_MARKS = {
    Status.FAIL: ("FAIL", "red"),
    Status.WARN: ("warn", "yellow"),
    Status.OK: ("ok", "green"),
    Status.SKIPPED: ("-", None),
}


@click.command()
@click.option("--node", "node_name", metavar="NODE", help="Ask from the rented machine behind NODE, over SSH.")
@config_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, node_name: str | None, config_path: Path, as_json: bool) -> int:
    """Look at everything that a job on a rented machine needs; each fault with its mend.

    Run it on the controller as root, with the daemon alive or dead; it changes nothing. As another user it says what it
    could not look at. --node asks the same from a real machine: ports, tunnel, clock, keys. Exits 1 when something is
    broken.
    """
    now = datetime.now(UTC)
    try:
        settings = load(config_path)
    except InvalidConfig as exc:
        if node_name is not None:
            raise
        found = [_wrong(problem, config_path) for problem in exc.problems]
        return _tell(found, "everything else needs a configuration that loads", now, as_json)
    if node_name is not None:
        return _tell(_ask_node(settings, node_name), None, now, as_json)
    daemon = _ask_daemon(Path(ctx.find_root().obj or settings.site.run_dir / "api.sock"))
    book = _ledger(settings)
    checks = controller.checks(settings, site_from_settings(settings), _scripts(settings), daemon, book, now)
    found = examine(checks)
    denied = any(finding.mend == AS_ROOT for finding in found)
    return _tell(found, "this user may not look at everything: run it as root" if denied else None, now, as_json)


def _wrong(problem: Problem, path: Path) -> Finding:
    # Each text ends with its mend.
    seen, _, mend = problem.text.rpartition("; ")
    found = fail(problem.where, seen or problem.text, f"in {path}: {mend}")
    return replace(found, section="configuration")


def _ask_daemon(path: Path) -> Daemon:
    try:
        return Daemon(status=Client(path, timeout=10.0).get("status"), silence=None)
    except BrokerError as exc:
        return Daemon(status=None, silence=str(exc).partition("; ")[0])


def _ask_node(settings: Settings, name: str) -> list[Finding]:
    if name not in settings.overlay.nodes:
        raise NotFound(f"{name} is none of the nodes in {settings.path} ({settings.overlay.nodes[0]}, …)")
    try:
        lease = _ledger(settings).holding(name)
    except PermissionError as exc:
        raise Refused(f"{settings.site.state_dir} may not be read by this user: run it as root") from exc
    if lease is None or lease.address is None or lease.host_key is None:
        raise NotFound(f"no machine with an address stands behind {name} now; `broker why {name}` tells its story")
    known = slurm.read(settings, site_from_settings(settings), _scripts(settings))
    return node.examine(settings, known, keys.packed(settings)[0], lease, open_shell)


def _ledger(settings: Settings) -> Ledger:
    return Ledger(settings.site.ledger, settings.site.database_password)


def _scripts(settings: Settings) -> dict[str, str]:
    try:
        return programs_text(read_inlined(settings.slurm.conf).text, settings.slurm.conf)
    except ConfigError:
        return {}


def _tell(found: list[Finding], hint: str | None, now: datetime, as_json: bool) -> int:
    count = Counter(finding.status for finding in found)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "host": socket.gethostname(),
                "checked_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "summary": {str(status): count[status] for status in Status},
                "hint": hint,
                "findings": [
                    {
                        "section": finding.section,
                        "name": finding.name,
                        "status": str(finding.status),
                        "seen": finding.seen,
                        "mend": finding.mend,
                    }
                    for finding in found
                ],
            }
        )
    else:
        _print(found)
        words = {Status.FAIL: "broken", Status.WARN: "to look at", Status.OK: "well", Status.SKIPPED: "not looked at"}
        click.echo("\n" + ", ".join(f"{count[status]} {word}" for status, word in words.items()))
        if hint:
            click.echo(f"({hint})")
    return 1 if count[Status.FAIL] else 0


def _print(found: list[Finding]) -> None:
    """What is broken first, with its mend; then the rest by section, a line each."""
    wrong = [each for status in (Status.FAIL, Status.WARN) for each in found if each.status is status]
    for finding in wrong:
        _line(finding)
        _mend(finding.mend or "")
    for section in dict.fromkeys(each.section for each in found):
        well = [each for each in found if each.section == section and each not in wrong]
        if well:
            click.echo(click.style(f"\n{section}", bold=True))
        for finding in well:
            _line(finding)


def _line(finding: Finding) -> None:
    mark, colour = _MARKS[finding.status]
    seen = finding.seen
    if finding.status is Status.SKIPPED and finding.mend:
        seen += f" ({finding.mend})"
    lines = textwrap.wrap(
        f"{printable(finding.name):<{_NAMES}} {printable(seen)}",
        _WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * (7 + _NAMES),
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo(click.style(f"{mark:<6}", fg=colour) + lines[0][6:])
    for line in lines[1:]:
        click.echo(line)


def _mend(text: str) -> None:
    # On one line, however long: it is there to be pasted, and the terminal wraps it without breaking it.
    click.echo(f"      mend: {printable(text)}")
