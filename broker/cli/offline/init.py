"""`broker init`."""

import grp
import json
import os
import secrets
from pathlib import Path

import click

from broker.cli.offline.questions import Question, find_slurm_conf, questions
from broker.cli.output import say
from broker.config import InvalidConfig, Problem, parse
from broker.core.errors import BrokerError, Refused

_TEMPLATE = Path(__file__).with_name("broker.toml.in")
_PROVIDER = "lambda-a"


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/broker/broker.toml"),
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file when it is there.")
@click.option("--yes", is_flag=True, help="Ask nothing, take every default.")
def init(output: Path, force: bool, yes: bool) -> None:
    """Write a commented broker.toml by asking and looking.

    Looks at slurm.conf for the cluster's name and at this host's routes for a free network, and asks the rest.
    """
    output = output.absolute()
    if output.exists() and not force:
        raise Refused(f"{output} is there already; --force replaces it, or name another file with --output")
    asked = questions(find_slurm_conf(os.environ), _routes())
    answers = {question.name: question.default for question in asked}
    if not yes:
        _ask(asked, answers, output)
    text = render(asked, answers)
    problems = _problems(text, output)
    wrong = [problem for problem in problems if not _is_missing_key(problem)]
    if wrong:
        raise InvalidConfig(output, wrong)
    _write(output, text, force)
    _next_steps(output, answers, key_is_missing=bool(problems))


def render(asked: list[Question], answers: dict[str, str]) -> str:
    """The file's text. An answer that should be a number and is none stays a text, for the check to complain about."""
    numbers = {question.name for question in asked if question.number}
    values = {
        name: value if name in numbers and value.isdecimal() else json.dumps(value, ensure_ascii=False)
        for name, value in answers.items()
    }
    # The node names' stem follows from the GPU: h100-1, or h100x8-1.
    count = "" if answers["gpu_count"] == "1" else f"x{answers['gpu_count']}"
    stem = "".join(char for char in answers["gpu"].lower() if char.isascii() and char.isalnum())
    values["shape"] = json.dumps(f"{stem or 'gpu'}{count}")
    values["provider"] = _PROVIDER
    lines = _TEMPLATE.read_text(encoding="utf-8").splitlines()
    return "".join(_filled(line, values) + "\n" for line in lines)


def _filled(line: str, values: dict[str, str]) -> str:
    if line.startswith("#"):
        return line
    for name, value in values.items():
        placeholder = f"{{{name}}}"
        if placeholder in line:
            before, after = line.split(placeholder, 1)
            setting, comment = f"{before}{value}{after.split('#')[0].rstrip()}", after.partition("#")[2]
            return f"{setting:<34} #{comment}" if comment else setting
    return line


def _ask(asked: list[Question], answers: dict[str, str], output: Path) -> None:
    for question in asked:
        while True:
            answers[question.name] = str(click.prompt(question.text, default=question.default, err=True)).strip()
            problems = [
                problem
                for problem in _problems(render(asked, answers), output)
                if problem.where == question.where and not _is_missing_key(problem)
            ]
            if not problems:
                break
            for problem in problems:
                click.echo(f"  {problem.text}", err=True)
            answers[question.name] = question.default


def _problems(text: str, path: Path) -> tuple[Problem, ...]:
    try:
        parse(text, path)
    except InvalidConfig as exc:
        return exc.problems
    return ()


def _is_missing_key(problem: Problem) -> bool:
    """The one thing that may be put right after the file is written."""
    return problem.where == f"provider.{_PROVIDER}.api_key_file" and "does not exist" in problem.text


def _write(path: Path, text: str, force: bool) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
            _give_to_broker(file.fileno())
        if force:
            fresh.replace(path)
        else:
            path.hardlink_to(fresh)  # fails when somebody was faster, where a rename would replace theirs
    except FileNotFoundError:
        raise BrokerError(f"{path.parent} does not exist; make it first: mkdir {path.parent}") from None
    except FileExistsError:
        raise Refused(f"{path} is there already; --force replaces it") from None
    except OSError as exc:
        raise BrokerError(f"{path} cannot be written ({exc.strerror}); run as root or name another --output") from exc
    finally:
        fresh.unlink(missing_ok=True)


def _give_to_broker(fd: int) -> None:
    if os.getuid() != 0:
        return
    try:
        os.fchown(fd, 0, grp.getgrnam("broker").gr_gid)
    except KeyError:
        click.echo('(there is no group "broker" yet; once there is: chgrp broker FILE)', err=True)


def _next_steps(output: Path, answers: dict[str, str], key_is_missing: bool) -> None:
    say(f"Wrote {output}. What comes next:")
    if key_is_missing:
        say(f"- put the API key into {answers['api_key_file']} (owner root, group broker, mode 0640)", hanging="  ")
    if answers["trust"] != "full":
        say(f'- decide about trust in [provider.{_PROVIDER}]: with "none" nothing is bought from it', hanging="  ")
    say("- broker node-bundle build", hanging="  ")
    say("- broker slurm-conf, to see what Slurm needs", hanging="  ")
    say(f"- broker serve --config {output}", hanging="  ")


def _routes() -> str:
    try:
        return Path("/proc/net/route").read_text()
    except OSError:
        return ""
