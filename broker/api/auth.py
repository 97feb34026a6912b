"""Roles: operators may do everything; every other user sees the status, the offers and the story of their own jobs."""

import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from broker.api.peer import EXTENSION
from broker.core.errors import ConfigError, Refused


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`user` is the Unix user's name, or `uid N` when the host knows no name for it."""

    uid: int
    user: str
    is_operator: bool


def operator_uids(names: Iterable[str]) -> frozenset[int]:
    """The uids of `[site] operators`, root's always. ConfigError: this host has no such user."""
    uids = {0}
    for name in names:
        try:
            uids.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            raise ConfigError(
                f'site.operators: this host has no user "{name}"; correct the name or take it out'
            ) from None
    return frozenset(uids)


def caller(request: Request) -> Caller:
    """Who calls. Refused: the server cannot tell, so nothing is allowed."""
    uid = request.scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(uid, int):
        raise Refused("The server does not know who calls; use the broker's Unix socket.")
    return Caller(uid=uid, user=_name(uid), is_operator=uid == 0 or uid in request.app.state.operators)


AnyCaller = Annotated[Caller, Depends(caller)]


def operator(who: AnyCaller) -> Caller:
    """The caller when an operator, else Refused."""
    if not who.is_operator:
        raise Refused(
            f"{who.user} is not an operator; ask one, or as root add the name to [site] operators in broker.toml. "
            "Everyone may use `broker status`, `broker offers`, and `broker why` for their own jobs."
        )
    return who


Operator = Annotated[Caller, Depends(operator)]


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
