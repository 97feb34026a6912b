"""`broker slurm-conf`: prints, checks or installs Slurm's side."""

import os
import re
import subprocess
from pathlib import Path, PurePosixPath

import click

from broker.cli.offline.slurm_files import install
from broker.cli.options import config_option
from broker.cli.output import json_option, print_json, say, table
from broker.config import Settings, load
from broker.core.errors import BrokerError, ConfigError
from broker.provisioning.export_sshd import sshd_conf
from broker.slurm.conf import Finding, SlurmSite, check, fragment, gres_lines, hosts_block
from broker.slurm.directives import read
from broker.slurm.inlined import Source, read_inlined
from broker.slurm.lint import JOB_SUBMIT
from broker.slurm.plugins import plugins
from broker.slurm.wants import Need

_PROGRAMS = ("PrologSlurmctld", "ResumeProgram", "SuspendProgram", "ResumeFailProgram")
_LONGEST_TIMEOUT_S = 65533  # slurm.conf keeps these in 16 bits, and the two highest mean something else


@click.command("slurm-conf")
@click.option("--check", "checks", is_flag=True, help="Hold the site's slurm.conf against what is needed.")
@click.option(
    "--install",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the programs that Slurm calls into DIR, and broker.conf beside slurm.conf.",
    metavar="DIR",
)
@click.option("--export-sshd", is_flag=True, help="Print the configuration of the sshd that exports homes, instead.")
@config_option
@json_option
def slurm_conf(checks: bool, folder: Path | None, export_sshd: bool, config_path: Path, as_json: bool) -> int:
    """Print the lines that slurm.conf needs, check the site's own, or install Slurm's side.

    Without an option: prints the include file. --check exits 1 when something required is missing. --install never
    changes a file that is the site's own; it says which lines to add.
    """
    if checks + (folder is not None) + export_sshd > 1:
        raise click.UsageError("--check, --install and --export-sshd are three things: one at a time")
    settings = load(config_path)
    if export_sshd:
        text = sshd_conf(settings)
        if as_json:
            print_json({"schema_version": 1, "export_sshd_conf": text})
        else:
            click.echo(text, nl=False)
        return 0
    site = site_from_settings(settings, folder)
    if checks:
        return _check(settings, site, as_json)
    if folder is not None:
        return _install(settings, site, as_json)
    text = _fragment(settings, site)
    if as_json:
        print_json({"schema_version": 1, "slurm_conf": text, "gres_conf": gres_lines(site), "hosts": hosts_block(site)})
    else:
        click.echo(text, nl=False)
    return 0


def site_from_settings(settings: Settings, folder: Path | None = None) -> SlurmSite:
    """What Slurm has to know of the site. `folder`: where the programs lie, when not where the configuration says.

    ConfigError: Slurm cannot take one of the values.
    """
    for name in ("resume_timeout_s", "suspend_timeout_s"):
        if getattr(settings.slurm, name) > _LONGEST_TIMEOUT_S:
            raise ConfigError(f"{settings.path}: slurm.{name} is more than Slurm can take; write {_LONGEST_TIMEOUT_S}")
    return SlurmSite(
        shapes=settings.shapes,
        addresses={name: str(address) for name, address in settings.overlay.addresses().items()},
        hub=str(settings.overlay.hub),
        resume_timeout_s=settings.slurm.resume_timeout_s,
        suspend_timeout_s=settings.slurm.suspend_timeout_s,
        suspend_time_s=settings.slurm.suspend_time_s,
        slurm_version=_slurm_version(settings.slurm.conf),
        install_dir=PurePosixPath((folder or settings.slurm.plugin_dir).absolute()),
        spool=PurePosixPath(settings.site.spool_dir),
        conf=PurePosixPath(settings.slurm.conf),
        interface=settings.overlay.interface,
        task_prolog=settings.slurm.task_prolog,
    )


def _slurm_version(conf: Path) -> str:
    # scontrol, unlike slurmctld, is on login hosts, too, but answers only with a slurm.conf at hand.
    for command in (["slurmctld", "-V"], ["scontrol", "--version"]):
        try:
            said = subprocess.run(
                command,
                env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "SLURM_CONF": str(conf)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found := re.search(r"\d+\.\d+(\.\d+)?", said):
            return found[0]
    click.echo("broker: neither slurmctld nor scontrol tells its version here: writing for Slurm 22.05", err=True)
    return "22.05"


def _fragment(settings: Settings, site: SlurmSite) -> str:
    conf = settings.slurm.conf
    if not conf.exists():
        return fragment(site)
    # Our own include is left out: what it says is not the site's word.
    own = read_inlined(conf, without=frozenset({"broker.conf"})).text
    return fragment(site, own, programs_text(own, conf))


def programs_text(text: str, conf: Path) -> dict[str, str]:
    """What the programs that slurm.conf names say, as far as they can be read."""
    known: dict[str, str] = {}
    settings = read(text)
    named = [value.text for program in _PROGRAMS if (value := settings.value(program))]
    for key, path in [*((path, Path(path)) for path in named), (JOB_SUBMIT, conf.parent / JOB_SUBMIT)]:
        try:
            known[key] = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            if key == JOB_SUBMIT:
                known[key] = ""
    return known


def _check(settings: Settings, site: SlurmSite, as_json: bool) -> int:
    conf = settings.slurm.conf
    source = read_inlined(conf)
    findings = check(source.text, site, programs_text(source.text, conf))
    bad = any(finding.severity is Need.REQUIRED for finding in findings)
    if as_json:
        print_json({"schema_version": 1, "slurm_conf": str(conf), "findings": [_facts(f, source) for f in findings]})
    elif findings:
        rows = [
            (finding.severity, source.place(finding.line), f"{finding.message}.\nMend: {finding.mend}")
            for finding in findings
        ]
        table(("need", "where", "what"), rows)
    else:
        say(f"{conf} has all that the elastic partitions need.")
    return 1 if bad else 0


def _facts(finding: Finding, source: Source) -> dict[str, object]:
    return {
        "severity": finding.severity,
        "where": source.place(finding.line),
        "message": finding.message,
        "mend": finding.mend,
    }


def _install(settings: Settings, site: SlurmSite, as_json: bool) -> int:
    conf = settings.slurm.conf
    text = _fragment(settings, site)
    try:
        done = install(site, conf.parent, plugins(site), text)
    except OSError as exc:
        raise BrokerError(
            f"{exc.filename or conf.parent} cannot be written ({exc.strerror}): run this as root"
        ) from exc
    todo = _todo(settings, site)
    if as_json:
        written = [str(path) for path in done.written]
        print_json({"schema_version": 1, "written": written, "todo": todo, "hosts": hosts_block(site)})
        return 0
    for path in done.written:
        click.echo(f"wrote {path}")
    for path in done.kept:
        click.echo(f"kept  {path}, which is yours")
    click.echo("For /etc/hosts of this host and of login hosts:\n" + hosts_block(site), nl=False)
    for step in todo:
        say(f"- {step}", hanging="  ")
    return 0


def _todo(settings: Settings, site: SlurmSite) -> list[str]:
    """What is left to a person, since the files are the site's own."""
    conf = settings.slurm.conf
    steps = []
    own = read_inlined(conf, without=frozenset({"broker.conf"})).text if conf.exists() else ""
    if "broker.conf" not in (conf.read_text(encoding="utf-8", errors="replace") if conf.exists() else ""):
        steps.append(f"add this line at the end of {conf}: include broker.conf")
    lines = gres_lines(site)
    gres = conf.parent / "gres.conf"
    present = gres.read_text(encoding="utf-8", errors="replace") if gres.exists() else ""
    if lines and lines not in present:
        steps.append(f"add the lines of {conf.parent / 'broker-gres.conf'} to {gres}")
    if "broker" not in programs_text(own, conf)[JOB_SUBMIT]:
        steps.append(f"let your {conf.parent / JOB_SUBMIT} call {site.install_dir}/broker.lua, as its head shows")
    steps.append("restart slurmctld and slurmd, then run: broker slurm-conf --check")
    return steps
