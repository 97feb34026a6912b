"""`broker node-bundle`: packs what a rented machine needs to be a node of this cluster."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from broker.core.errors import BrokerError
from broker.provisioning import bundle

_DEFAULT_FOLDER = Path("/var/lib/broker/bundle")


@click.group("node-bundle")
def node_bundle() -> None:
    """The archive that makes a bare machine able to run Slurm."""


@node_bundle.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the archive; the daemon takes the newest in its bundle_dir.",
)
@click.option("--slurmd", default="/usr/sbin/slurmd", show_default=True, help="The slurmd to pack, of this release.")
@click.option("--slurm-user", default="slurm", show_default=True, help="SlurmUser of slurm.conf.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle as JSON.")
def build(output: Path, slurmd: str, slurm_user: str, as_json: bool) -> None:
    """Pack this machine's slurmd, its plugins, munge, WireGuard and sshfs, with every library they need.

    Run it on a machine with the controller's Slurm release and CPU family. The same inputs give the same archive;
    when it is there already, nothing is done.
    """
    try:
        built = bundle.build(output, slurmd, slurm_user=slurm_user, progress=lambda line: click.echo(line, err=True))
    except (BrokerError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    if not as_json:
        click.echo(f"{built.path}  sha256 {built.sha256}")
        return
    facts = {
        "schema_version": 1,
        "built_at": datetime.fromtimestamp(built.path.stat().st_mtime, UTC).isoformat().replace("+00:00", "Z"),
        "path": str(built.path),
        "sha256": built.sha256,
        "size_bytes": built.size_bytes,
        "id": built.id,
        "prefix": built.prefix,
        "arch": built.arch,
        "slurm_version": built.slurm_version,
        "plugin_dir": built.plugin_dir,
        "commands": list(built.commands),
    }
    click.echo(json.dumps(facts, indent=1))
