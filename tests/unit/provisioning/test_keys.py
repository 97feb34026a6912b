import subprocess

import paramiko
import pytest

from broker.core.errors import ConfigError
from broker.provisioning.keys import client_key, new_host_key, user_data


def test_two_host_keys_differ_and_each_halves_fit(tmp_path):
    private, public = new_host_key()
    (tmp_path / "key").write_text(private)

    key = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))

    assert public == f"ssh-ed25519 {key.get_base64()}"
    assert new_host_key()[1] != public


def test_user_data_is_a_script_that_carries_the_key():
    private, _ = new_host_key()
    script = user_data(private)

    assert script.startswith("#!/bin/sh\n")
    assert private.strip() in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False).stderr == ""
    assert len(script) <= 4096, "the smallest limit of a provider we know"


def test_the_daemons_key_is_made_once_and_is_for_its_eyes_only(tmp_path):
    file, public = client_key(tmp_path / "ssh")

    assert client_key(tmp_path / "ssh") == (file, public)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.with_suffix(".pub").read_text().startswith(public)


def test_a_key_file_that_is_no_key_is_named(tmp_path):
    (tmp_path / "id_ed25519").write_text("not a key")

    with pytest.raises(ConfigError, match="id_ed25519"):
        client_key(tmp_path)
