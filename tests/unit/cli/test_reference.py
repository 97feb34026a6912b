"""The reference pages know every command, option and key."""

import re

import click
import pytest
from unit.cli.conftest import ROOT

from broker.cli.main import cli
from broker.config import load

REFERENCE = ROOT / "docs" / "reference"


def leaves(command, path):
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), f"{path} {name}")


@pytest.mark.parametrize(
    ("path", "command"),
    [leaf for leaf in leaves(cli, "broker") if not leaf[0].startswith("broker sandbox")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_is_in_the_reference_with_each_of_its_options(path, command):
    text = (REFERENCE / "commands.md").read_text()
    listed = re.search(rf"`{re.escape(path)}(?: [^`]*)?`", text)

    assert listed
    options = {name for param in command.params if isinstance(param, click.Option) for name in param.opts}
    assert {name for name in options if name not in listed[0]} == set()


def test_the_whole_file_of_the_reference_is_good_and_says_the_defaults(tmp_path):
    text = (REFERENCE / "configuration.md").read_text()
    whole = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    whole = whole.replace("/etc/broker/lambda-a.key", str(key))
    # The same file without every line that says what is so anyway.
    short = "\n".join(
        line for line in whole.splitlines() if line.startswith("[") or line.split(" =")[0] not in _defaulted(text)
    )
    assert len(short.splitlines()) < len(whole.splitlines()) - 20

    settings = []
    for content in (whole, short):
        (tmp_path / "broker.toml").write_text(content)
        settings.append(load(tmp_path / "broker.toml", {}))

    assert settings[0] == settings[1]


def _defaulted(text):
    """Keys whose row of a table names a default value."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", text, re.MULTILINE)
    keys = {
        key
        for names, default in rows
        if re.match(r"`?[/\"<\[\d]", default.strip())
        for key in re.findall(r"`([a-z_]+)`", names)
    }
    return keys - {"trust"}  # the page's file trusts, so that it shows a site that buys
