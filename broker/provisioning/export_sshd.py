"""The sshd on the hub that serves homes to rented machines: what its configuration says at this site."""

from pathlib import Path

from broker.config import Settings
from broker.provisioning.templates import render

EXPORTS = Path("/var/lib/broker-exports")
"""What broker-as-user is started with, too."""

PRIVATE_KEY = Path("/etc/ssh/broker-export.key")


def sshd_conf(settings: Settings) -> str:
    """The text of `export-sshd.conf`."""
    return render(
        "export-sshd.conf",
        listen_address=settings.overlay.hub,
        port=settings.node.export_port,
        host_key_file=PRIVATE_KEY,
        pid_file="/run/broker-export-sshd.pid",
        exports=EXPORTS,
    )
