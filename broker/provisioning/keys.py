"""SSH keys: the daemon's own, and the one-use host key a machine boots with."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from broker.core.errors import ConfigError
from broker.provisioning.templates import render


def new_host_key() -> tuple[str, str]:
    """A fresh ed25519 key: private half in OpenSSH's format, public half as `ssh-ed25519 AAAA…`."""
    return _texts(Ed25519PrivateKey.generate())


def user_data(host_key_private: str) -> str:
    """The first-boot script that makes `host_key_private` the one key the machine's sshd answers with."""
    return render("user_data.sh", private_key=host_key_private.strip())


def client_key(folder: Path) -> tuple[Path, str]:
    """The daemon's own key in `folder`/id_ed25519, made when there is none: its file and its public half.

    ConfigError: the file is there and cannot be used.
    """
    file = folder / "id_ed25519"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private, public = new_host_key()
        part = folder / f".id_ed25519.{os.getpid()}"
        part.touch(mode=0o600)
        part.write_text(private)
        part.rename(file)
        (folder / "id_ed25519.pub").write_text(f"{public} broker\n")
    try:
        key = load_ssh_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"ssh key {file}: {exc}; move it away and broker makes a new one") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"ssh key {file}: it is not an ed25519 key; move it away and broker makes a new one")
    return file, _texts(key)[1]


def _texts(key: Ed25519PrivateKey) -> tuple[str, str]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode()
