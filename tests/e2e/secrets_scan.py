"""Every secret that a sandbox has, in every spelling in which it could leak, and every place where none may be."""

import base64
import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from broker.sandbox.layout import Layout

_BLOCK = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s(.+?)-----END", re.DOTALL)
_SHORTEST = 16
"""Shorter texts are found by chance."""

Secrets = Mapping[str, frozenset[bytes]]
"""What the secret is → the byte strings of which none may be seen."""


def spellings(secret: bytes) -> frozenset[bytes]:
    """The secret as it is, in base64 (also from the middle of something longer), in hex, in an URL, as Python shows bytes."""
    whole = secret.strip() if secret.isascii() else secret
    forms = {whole, whole.hex().encode(), repr(whole)[2:-1].encode(), quote(whole, safe="").encode()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + whole)
        # The letters at both ends depend on what stands around it.
        forms.add(text[4 * (shift > 0) : len(text) // 4 * 4 - 4])
    if whole.isascii():
        with contextlib.suppress(ValueError):
            forms.add(base64.b64decode(whole, validate=True))
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def private_lines(key: bytes) -> frozenset[bytes]:
    """The lines of a private key's block that hold the private half, each of which gives it away in part."""
    lines = [line.strip() for block in _BLOCK.findall(key) for line in block.split()]
    # OpenSSH's first line is the same for every key, the second begins with the public half.
    return frozenset(line for line in lines[2:] if len(line) >= _SHORTEST)


def of_folder(folder: Path, names: Iterable[str]) -> dict[str, frozenset[bytes]]:
    """The secrets in the files of `folder` that match one of the `names`."""
    found: dict[str, frozenset[bytes]] = {}
    for path in sorted(path for name in names for path in folder.rglob(name) if path.is_file()):
        content = path.read_bytes()
        forms = private_lines(content) if b"PRIVATE KEY" in content else spellings(content)
        if forms:
            found[str(path.relative_to(folder))] = forms
    return found


def in_text(secrets: Secrets, content: bytes) -> list[str]:
    """Which of them `content` gives away."""
    return [name for name, forms in secrets.items() if any(form in content for form in forms)]


def in_places(secrets: Secrets, places: Mapping[str, bytes]) -> list[str]:
    """`PLACE shows SECRET` for each leak."""
    return [f"{place} shows {name}" for place, content in places.items() for name in in_text(secrets, content)]


def files_below(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every plain file there and what is in it."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield f"{folder.name}/{path.relative_to(folder)}", path.read_bytes()


class Arguments:
    """What every process of this machine was called with while the context was open."""

    def __init__(self) -> None:
        self.seen: dict[int, bytes] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="arguments")

    def __enter__(self) -> "Arguments":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        # Each process is read twice: between fork and exec it has its parent's words.
        before: set[int] = set()
        twice: set[int] = set()
        while not self._over.is_set():
            now = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}
            for pid in now - twice:
                with contextlib.suppress(OSError):
                    self.seen[pid] = self.seen.get(pid, b"") + Path(f"/proc/{pid}/cmdline").read_bytes()
            twice, before = (now & before) | (twice & now), now
            self._over.wait(0.05)


def of_site(where: Layout) -> dict[str, frozenset[bytes]]:
    """Every secret that lies on the sandbox's login host, in its spellings."""
    known = dict(of_folder(where.directory / "etc-broker", ["*.key"]))
    known |= of_folder(where.etc_slurm, [".munge.key"])
    known |= of_folder(where.directory, ["id_ed25519", "*host*key", "*.key"])
    return {name: forms for name, forms in known.items() if forms and not name.endswith(".pub")}


def kept_by(where: Layout) -> dict[str, bytes]:
    """What the sandbox's programs wrote down: all logs, those of its machines, the ledger."""
    places = dict(files_below(where.log, where.state / "leases"))
    return places | {path.name: path.read_bytes() for path in where.state.iterdir() if path.is_file()}
