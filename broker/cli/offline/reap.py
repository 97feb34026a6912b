"""`broker reap`: ends at the provider what nobody can need any more, also when the daemon is dead."""

import signal
import sys
import threading
from collections.abc import Callable, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from broker.cli.failures import exit_code
from broker.cli.output import json_option, print_json, say, table
from broker.cli.words import moment, printable
from broker.config import Settings, load
from broker.core.errors import BrokerError, ConfigError
from broker.core.leases import lease_of_label
from broker.core.living import LivingWord, from_text
from broker.providers.http import Exchange, Wait
from broker.providers.registry import make_providers
from broker.reaper.reap import Credential, Look, NotConfirmed, Outcome, Reaper
from broker.reaper.sightings import Sightings
from broker.slurm.client import CommandClient

_OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
        *("REVOKED", "TIMEOUT"),
    }
)
"""States of a job that has no nodes any more."""
_WORDS = {
    Outcome.KEPT: "kept",
    Outcome.WOULD_END: "would be ended",
    Outcome.ENDED: "ended",
    Outcome.ASKED: "asked to end",
}


@click.command()
@click.option("--once", is_flag=True, help="Look once and end: what happens without --every, too.")
@click.option("--every", type=click.IntRange(10, 86400), metavar="SECONDS", help="Look again and again until SIGTERM.")
@click.option("--dry-run", is_flag=True, help="Say what would be ended; end nothing.")
@click.option(
    "--living",
    metavar="FILE",
    help="The daemon's word; - reads it from stdin. Default: living.json in [site] state_dir.",
)
@click.option(
    "--max-age",
    type=click.IntRange(3600, 366 * 86400),
    metavar="SECONDS",
    help="Where there is no word: end what this reaper has seen for so long, jobs or not. Default: end nothing.",
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --max-age: where it is kept since when machines are seen. Default: reap-seen.json in [site] state_dir.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/broker/broker.toml"),
    envvar="BROKER_CONFIG",
    show_default=True,
    help="The configuration file (or BROKER_CONFIG); it may be the reaper's own, with keys of its own.",
)
@json_option
def reap(
    once: bool,
    every: int | None,
    dry_run: bool,
    living: str | None,
    max_age: int | None,
    memory: Path | None,
    config_path: Path,
    as_json: bool,
) -> int:
    """End the machines of this cluster that nobody can need any more. Asks no daemon.

    Judged by the daemon's last word: it renews it while it lives, and lets a job start only after the job's end stands
    there. Machines without this cluster's label are never touched.
    """
    if once and every is not None:
        raise click.UsageError("--once and --every are two things; choose one")
    if every is not None and living == "-":
        raise click.UsageError("--every cannot read stdin again and again; name a file, or run it by a timer")
    settings = load(config_path)
    reaper = _reaper(settings, living, timedelta(seconds=max_age) if max_age is not None else None, memory)
    if every is None:
        look = reaper.look(dry_run)
        _show(look, settings.site.cluster, dry_run, as_json)
        return _code(look)
    _again_and_again(reaper, every, lambda look: _show(look, settings.site.cluster, dry_run, as_json), dry_run)
    return 0


def _reaper(settings: Settings, living: str | None, max_age: timedelta | None, memory: Path | None) -> Reaper:
    skews: dict[str, timedelta | None] = {}

    def hear(heard: Exchange | Wait) -> None:
        if isinstance(heard, Exchange):
            skews[heard.provider] = _now() - heard.date if heard.date is not None else None

    def skew_of(name: str) -> Callable[[], timedelta | None]:
        return lambda: skews.get(name)

    providers = make_providers(settings.providers, _now, hear)
    slurm = CommandClient(settings.slurm.conf, timeout=settings.slurm.command_timeout_s)

    def busy_nodes() -> Set[str]:
        return {node for job in slurm.jobs() if job.state not in _OVER for node in job.nodes}

    state = settings.site.state_dir
    return Reaper(
        cluster=settings.site.cluster,
        credentials={name: Credential(provider=each, skew=skew_of(name)) for name, each in providers.items()},
        read_word=_word_of(living, state / "living.json"),
        busy_nodes=busy_nodes,
        clock=_now,
        max_age=max_age,
        sightings=Sightings(memory or state / "reap-seen.json") if max_age is not None else None,
    )


def _word_of(living: str | None, default: Path) -> Callable[[], LivingWord]:
    if living == "-":
        text = sys.stdin.read()
        return lambda: _parsed(text, "stdin")
    path = Path(living) if living is not None else default

    def read() -> LivingWord:
        try:
            return _parsed(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
            raise ConfigError(
                f"the daemon's word {path} cannot be read ({reason}): nothing is ended without it; name the file with "
                "--living, or see that this user may read it"
            ) from exc

    return read


def _parsed(text: str, source: str) -> LivingWord:
    try:
        return from_text(text)
    except BrokerError as exc:
        raise ConfigError(f"{source}: {exc}; nothing is ended without the daemon's word") from exc


def _again_and_again(reaper: Reaper, every: int, show: Callable[[Look], None], dry_run: bool) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    last: object = None
    while not stopping.is_set():
        try:
            look = reaper.look(dry_run)
            # A machine that is kept for the same reason as before is no news.
            told = ([(f.instance_id, f.outcome) for f in look.findings], [str(p) for p in look.problems])
            if told != last:
                show(look)
            last = told
        except BrokerError as exc:
            if str(exc) != last:
                click.echo(f"broker: {printable(exc)}", err=True)
            last = str(exc)
        sys.stdout.flush()
        stopping.wait(every)


def _show(look: Look, cluster: str, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(_document(look, cluster, dry_run))
    elif look.findings:
        table(
            ("LEASE", "CREDENTIAL", "NODE", "", "WHY"),
            [
                (lease_of_label(cluster, f.label) or "", f.provider, f.node or "-", _WORDS[f.outcome], f.why)
                for f in look.findings
            ],
        )
    else:
        heard = f"; the daemon's last word is of {moment(look.word_said_at.isoformat())}" if look.word_said_at else ""
        say(f"No machine of cluster {cluster} is there{heard}.")
    for problem in look.problems:
        click.echo(f"broker: {printable(problem)}", err=True)


def _document(look: Look, cluster: str, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "at": _text(look.at),
        "cluster": cluster,
        "dry_run": dry_run,
        "word_said_at": _text(look.word_said_at) if look.word_said_at else None,
        "machines": [
            {
                "provider": finding.provider,
                "instance_id": finding.instance_id,
                "label": finding.label,
                "node": finding.node,
                "outcome": finding.outcome.value,
                "why": finding.why,
            }
            for finding in look.findings
        ],
        "other_instances": look.strangers,
        "problems": [str(problem) for problem in look.problems],
    }


def _code(look: Look) -> int:
    """Of several problems the one that costs money first: an end that is not confirmed."""
    problems = sorted(look.problems, key=lambda problem: not isinstance(problem.error, NotConfirmed))
    return exit_code(problems[0].error) if problems else 0


def _now() -> datetime:
    return datetime.now(UTC)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
