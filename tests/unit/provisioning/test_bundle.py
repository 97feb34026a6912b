import hashlib
import io
import json
import tarfile

import pytest

from broker.core.errors import BrokerError, ConfigError
from broker.provisioning.bundle import build, find_bundle, load, verify


def archive(path, name, content):
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [("x/other", b"1"), ("x/manifest.json", b"{"), ("x/manifest.json", b"{}"), ("x/manifest.json", b"[1]")],
)
def test_an_archive_that_is_not_ours_is_refused_with_the_mend(tmp_path, name, content):
    with pytest.raises(BrokerError, match="broker node-bundle build"):
        load(archive(tmp_path / "bundle-1.tar.gz", name, content))


def test_half_an_archive_is_refused(tmp_path):
    whole = archive(tmp_path / "bundle-1.tar.gz", "x/manifest.json", json.dumps({"id": "x" * 5000}).encode())
    whole.write_bytes(whole.read_bytes()[:60])

    with pytest.raises(BrokerError, match="cannot be used"):
        load(whole)


def packed(path, **files):
    """A bundle's archive; its manifest says that each file holds `good`."""
    checksum = hashlib.sha256(b"good").hexdigest()
    manifest = json.dumps({"files": {f"bin/{name}": checksum for name in files}}).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {
            "manifest.json": manifest,
            **{f"bin/{name}": each for name, each in files.items()},
        }.items():
            entry = tarfile.TarInfo(f"bundle-1/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_every_file_of_a_bundle_is_held_against_its_checksum(tmp_path):
    assert verify(packed(tmp_path / "good.tar.gz", srun=b"good", munge=b"good")) == {"bin/srun", "bin/munge"}
    with pytest.raises(BrokerError, match="bin/munge differ"):
        verify(packed(tmp_path / "bad.tar.gz", srun=b"good", munge=b"evil"))


def test_a_bundle_with_a_torn_end_is_damaged(tmp_path):
    whole = packed(tmp_path / "bundle-1.tar.gz", srun=b"good")
    whole.write_bytes(whole.read_bytes()[:-30])

    with pytest.raises(BrokerError, match="is damaged"):
        verify(whole)


def test_a_missing_bundle_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigError, match="broker node-bundle build --output"):
        find_bundle(tmp_path)


def test_a_program_that_is_not_installed_is_named_with_its_package(tmp_path):
    with pytest.raises(BrokerError, match="libslurmfull"):
        build(tmp_path / "out", "/bin/true")
