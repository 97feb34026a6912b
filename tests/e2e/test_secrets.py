"""No secret of a site is seen in its logs, its ledger, its answers, its metrics, or in the arguments of any process."""

import base64
import os
import secrets as random
import subprocess

import pytest
from e2e import secrets_scan as scan

from broker.provisioning.keys import new_host_key

# What lies on a machine that was bought: the cluster's key, its own host key, the keys of its peer and of its homes.
_ON_NODE = (
    "for file in /etc/broker-node/*key /etc/ssh/ssh_host_ed25519_key /etc/munge/munge.key; do "
    'test -f "$file" && echo "$file $(sudo base64 -w0 "$file")"; done; true'
)


@pytest.mark.rig
def test_the_whole_story_of_a_site_shows_no_secret(story):
    sandbox = story.sandbox
    with scan.Arguments() as arguments:
        job = story.submit(*story.fresh(), script="sleep 6; hostname")
        node = story.wait(lambda: [x for x in story.of_job(job) if x["state"] == "ready"], 90)[0]["node"]
        on_node = story.broker("node", "ssh", node, "--", f"sudo sh -c '{_ON_NODE}'")
        assert on_node.returncode == 0, on_node.stderr
        # Errors say most: a key that is refused, a page in place of an answer, an answer cut in half, a launch that fails.
        sandbox.faults(
            [
                {"kind": "unauthorized", "credential": "lambda-b", "times": 3},
                {"kind": "html_200", "credential": "lambda-a", "times": 2},
                {"kind": "half_json", "credential": "lambda-a", "times": 1, "after": 1},
                {"kind": "quota", "times": 1},
            ]
        )
        for name in ("lambda-a", "lambda-b"):
            story.broker("provider", "test", name)
        other = story.submit(*story.fresh())
        answers = {
            "broker " + " ".join(words): said(story.broker(*words, "--json"))
            for words in (
                ("status",),
                ("offers", "--all"),
                ("provider", "list"),
                ("provider", "show", "lambda-a"),
                ("provider", "show", "lambda-b"),
                ("provider", "test", "lambda-b"),
                ("lease", "list", "--all"),
                ("why", str(job)),
                ("why", str(other)),
                ("why", node),
                ("doctor",),
                ("reap", "--dry-run"),
            )
        }
        for lease in story.leases():
            for words in (("show", lease["id"]), ("log", lease["id"]), ("log", lease["id"], "--console")):
                answers["broker lease " + " ".join(words)] = said(story.broker("lease", *words, "--json"))
        curl = ["curl", "-s", "--unix-socket", "/run/broker/api.sock", "http://broker/metrics"]
        answers["/metrics"] = said(sandbox.run("root", curl))
        answers["scontrol"] = said(sandbox.run("root", ["scontrol", "show", "job"]))
        story.all_given_back()

    where = sandbox.layout
    known = scan.of_site(where)
    for line in on_node.stdout.splitlines():
        name, content = line.split()
        secret = base64.b64decode(content)
        known[f"{node}:{name}"] = scan.private_lines(secret) if b"PRIVATE KEY" in secret else scan.spellings(secret)
    assert {"lambda-a.key", "lambda-b.key", ".munge.key"} <= known.keys()
    for name in ("/wg.key", "/home_ed25519_key", "ssh/id_ed25519", "/ssh_host_ed25519_key"):
        assert any(each.endswith(name) for each in known), known.keys()

    places = dict(answers) | {f"process {pid}": words for pid, words in arguments.seen.items()}
    places |= scan.kept_by(where)
    assert {"log/broker.log", "broker.db", "living.json"} <= places.keys()
    assert len(arguments.seen) > 50
    assert scan.in_places(known, places) == []


def said(done: subprocess.CompletedProcess[str]) -> bytes:
    return (done.stdout + done.stderr).encode()


@pytest.mark.parametrize(
    "hide",
    [
        lambda secret: secret,
        lambda secret: base64.b64encode(secret),
        lambda secret: base64.b64encode(b"key:" + secret),
        lambda secret: base64.b64encode(b"Bearer " + secret + b" and more"),
        lambda secret: secret.hex().encode(),
        lambda secret: repr(secret).encode(),
    ],
    ids=["plain", "base64", "base64 off by four", "base64 in the middle", "hex", "repr"],
)
@pytest.mark.parametrize(
    "secret", [b"p4ssw0rd-" + random.token_urlsafe(32).encode(), os.urandom(128)], ids=["text", "bytes"]
)
def test_the_scan_finds_a_secret_however_it_is_written(secret, hide):
    assert scan.in_text({"key": scan.spellings(secret)}, b"2026 level=INFO said " + hide(secret) + b" at noon") == [
        "key"
    ]
    assert scan.in_text({"key": scan.spellings(secret)}, b"2026 level=INFO said nothing at noon") == []


def test_the_scan_finds_a_part_of_a_private_key_and_not_its_public_half(tmp_path):
    private, public = new_host_key()
    (tmp_path / "id_ed25519").write_text(private)
    known = scan.of_folder(tmp_path, ["id_ed25519"])
    assert scan.in_text(known, private.splitlines()[4].encode()) == ["id_ed25519"]
    assert scan.in_text(known, public.encode()) == []


def test_the_arguments_of_a_program_are_seen(tmp_path):
    word = random.token_urlsafe(16)
    with scan.Arguments() as arguments:
        subprocess.run(["sh", "-c", f": {word}; sleep 0.3"], check=True)
    assert any(word.encode() in words for words in arguments.seen.values())
