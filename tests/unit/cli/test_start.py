"""The commands are listed, can be loaded, and cost nothing before they are used."""

import inspect
import subprocess
import sys

import click
import pytest
from unit.cli.conftest import ROOT

from broker.cli.main import cli

SLOW = {
    "fastapi",
    "pydantic",
    "sqlalchemy",
    "alembic",
    "paramiko",
    "httpx",
    "rich",
    "uvicorn",
    "jinja2",
    "ClusterShell",
}
NAMES = cli.list_commands(click.Context(cli))


def loaded_by(*args, env=None):
    """The modules in a process after it ran the command."""
    script = (
        "import sys\n"
        "from broker.cli.main import main\n"
        f"sys.argv = ['broker', *{list(args)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60, env=env
    )
    return set(done.stderr.split())


def test_help_names_every_command_and_what_it_is_for(broker):
    help_text = broker("--help").out

    for name in NAMES:
        assert f"  {name} " in help_text


def test_help_loads_no_command_and_nothing_slow():
    loaded = loaded_by("--help")

    assert loaded & SLOW == set()
    assert {name for name in loaded if name.startswith("broker.cli.offline")} == set()


def test_why_loads_nothing_slow(daemon):
    assert loaded_by("why", "4711") & SLOW == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_command_can_be_loaded_and_explains_itself(broker, name):
    ended = broker(name, "--help")

    assert ended.code == 0
    assert ended.out.startswith(f"Usage: broker {name} ")


def test_an_unknown_command_is_answered_with_the_nearest(broker):
    ended = broker("leases")

    assert ended.code == 2
    assert "Did you mean 'lease'?" in ended.err


def test_the_version_is_told(broker):
    assert "0.1.0" in broker("--version").out


def commands(group, name=()):
    """Every command below `group`, with its words."""
    for word in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), word)
        if isinstance(command, click.Group):
            yield from commands(command, (*name, word))
        else:
            yield " ".join((*name, word)), command


def test_every_command_takes_the_options_it_declares():
    for words, command in commands(cli):
        declared = {param.name: None for param in command.params if param.expose_value}
        wanted = inspect.signature(command.callback)
        context = [] if len(wanted.parameters) == len(declared) else [None]  # @click.pass_context

        try:
            wanted.bind(*context, **declared)
        except TypeError as exc:
            pytest.fail(f"broker {words}: {exc}")
