"""Renders templates/bootstrap/: shell scripts, so each value is quoted by the filter `sh`."""

import shlex
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from broker.templating import shipped


def render(name: str, **values: object) -> str:
    """The text of `templates/bootstrap/<name>.j2`; a value the template misses is an error, never an empty word."""
    return _environment().get_template(f"{name}.j2").render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(shipped("templates", "bootstrap")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  (scripts, not HTML)
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment
