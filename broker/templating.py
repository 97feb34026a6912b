"""Finds and renders what we ship for others: `templates/` and `slurm_plugins/`."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from broker.core.errors import BrokerError

_PACKAGE = Path(__file__).parent


def shipped(*parts: str) -> Path:
    """A shipped file or folder: `shipped("slurm_plugins", "shim.py")`. BrokerError: it is not there."""
    # A wheel carries the files below the package; a checkout has them beside it.
    for root in (_PACKAGE / "_shipped", _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise BrokerError(f"{'/'.join(parts)} is missing from this installation of broker: install it again")


def render(name: str, **values: object) -> str:
    """The text of `templates/<name>.j2`. Every value it uses must be given; its last newline stays.

    Values are escaped in a name that ends with `.html`, and in no other.
    """
    return _environment().get_template(f"{name}.j2").render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(shipped("templates")),
        undefined=StrictUndefined,
        # The rest is configuration and scripts, where an escape would change the meaning.
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
