"""The direction of imports, as docs/explanation/architecture.md draws it, read from the source (nothing is run)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PURE = {"core", "catalog", "placement", "billing"}
BASIS = PURE | {"config", "templating"}
ADAPTERS = {"providers", "signals", "slurm", "provisioning", "db", "privileged", "cashier"}
INSIDE = BASIS | ADAPTERS | {"accounting", "services", "reconcile"}

# Part of the broker → the parts it may import, itself aside. `cli/offline` is a part of its own.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "catalog": {"core"},
    "placement": {"core", "catalog"},
    # Reads exports of sacct, and nothing else.
    "accounting": {"core", "catalog"},
    "simulate": PURE | {"accounting"},
    "billing": {"core"},
    "config": PURE,
    "templating": {"core"},
    "providers": BASIS,
    "signals": BASIS,
    "slurm": BASIS,
    "provisioning": BASIS,
    "cashier": BASIS,
    "db": BASIS | {"accounting"},
    "privileged": {"core"},
    "services": INSIDE,
    "reconcile": INSIDE,
    "api": INSIDE,
    "metrics": INSIDE,
    # Looks at what the others work with; the daemon may be dead, so it goes through none of its services.
    "doctor": BASIS | ADAPTERS,
    "cli": {"core"},
    "cli/offline": BASIS
    | {"cli", "slurm", "provisioning", "accounting", "simulate", "sandbox", "reaper", "providers", "signals", "doctor"},
    # A process of its own, which must do when the daemon, the ledger and what they are made of cannot.
    "reaper": {"core", "providers"},
    # The sandbox is a site of its own making: it starts the real parts, and may know how each of them is set up.
    "sandbox": INSIDE,
    "app": INSIDE | {"api", "daemon", "metrics"},
    "daemon": INSIDE | {"api", "app", "metrics"},
    "ledger": INSIDE | {"app"},
    "usage_import": INSIDE | {"app", "ledger"},
    "__main__": {"cli"},
    "__init__": set(),
}

# One module, one import, one reason: `broker serve` is how the daemon starts; `broker ledger` and
# `broker usage import` work without it.
EXCEPTIONS = {("cli/serve.py", "daemon"), ("cli/ledger.py", "ledger"), ("cli/usage.py", "usage_import")}

# Files of broker/privileged that run in the unprivileged daemon; the others run as root or with CAP_NET_ADMIN.
DAEMONS_SIDE = {"broker/privileged/client.py", "broker/privileged/fake.py"}

# What a pure module has no use for.
IMPURE = {
    "asyncio", "http", "httpx", "multiprocessing", "os", "paramiko", "random", "requests", "shutil", "signal", "socket",
    "sqlalchemy", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _imported(path: Path) -> Iterator[str]:
    """Full names of what `path` imports, at any depth, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join((*package, base)).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _part(path: Path) -> str:
    inside = path.relative_to(ROOT / "broker").with_suffix("").parts
    return "cli/offline" if inside[:2] == ("cli", "offline") else inside[0]


def _part_of_name(name: str) -> str | None:
    """The part of the broker that an imported name lies in; None: not ours, or the package's own version."""
    words = name.split(".")
    if words[0] != "broker" or words[1:] in ([], ["__version__"]):
        return None
    return "cli/offline" if words[1:3] == ["cli", "offline"] else words[1]


def _edges() -> Iterator[tuple[str, str, str]]:
    for path in _sources("broker"):
        where = path.relative_to(ROOT / "broker").as_posix()
        for name in _imported(path):
            part = _part_of_name(name)
            if part is not None and part != _part(path):
                yield where, _part(path), part


def test_every_part_of_the_broker_has_a_place_in_the_order():
    parts = {_part(path) for path in _sources("broker")}

    assert parts - MAY_IMPORT.keys() == set()


def test_imports_point_one_way():
    wrong = sorted(
        f"broker/{where} imports broker.{target}"
        for where, part, target in set(_edges())
        if target not in MAY_IMPORT.get(part, set()) and (where, target) not in EXCEPTIONS
    )

    assert wrong == []


def test_only_the_command_line_knows_the_sandbox():
    assert {part for _, part, target in _edges() if target == "sandbox"} <= {"cli/offline"}


@pytest.mark.parametrize("part", sorted(PURE))
def test_pure_parts_import_nothing_that_acts(part):
    wrong = sorted(
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(f"broker/{part}")
        for name in _imported(path)
        if name.split(".")[0] in IMPURE
    )

    assert wrong == []


def test_the_core_is_standard_library_only():
    assert _foreign("broker/core", own="broker.core") == []


def test_what_runs_with_privileges_is_standard_library_only():
    wrong = [
        line
        for line in _foreign("broker/privileged", own="broker.privileged")
        if not line.startswith(tuple(f"{path} " for path in DAEMONS_SIDE))
    ]

    assert wrong == []


def test_what_runs_with_privileges_does_not_load_the_daemons_side():
    names = {path.removesuffix(".py").replace("/", ".") for path in DAEMONS_SIDE}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources("broker/privileged")
        if path.relative_to(ROOT).as_posix() not in DAEMONS_SIDE
        for name in _imported(path)
        if any(f"{name}.".startswith(f"{module}.") for module in names)
    ]

    assert wrong == []


def test_what_slurm_runs_imports_nothing_of_ours_and_nothing_that_must_be_installed():
    assert _foreign("slurm_plugins", own=None) == []


def _foreign(folder: str, own: str | None) -> list[str]:
    return sorted(
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(folder)
        for name in _imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not (own is not None and f"{name}.".startswith(f"{own}."))
    )
