"""Reads slurm.conf with its includes, and writes our files beside it."""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from broker.core.errors import BrokerError
from broker.slurm.conf import gres_lines
from broker.slurm.lint import JOB_SUBMIT
from broker.slurm.plugins import LINKS, Plugin, job_submit
from broker.slurm.site import SlurmSite

_PROGRAM, _TEXT = 0o755, 0o644
_OURS = "# Written by `broker slurm-conf`, since there was none. Take this line out, and it is yours.\n"


@dataclass(frozen=True, kw_only=True)
class Installed:
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    """The site's own files, left as they are."""


def install(site: SlurmSite, conf_folder: Path, programs: list[Plugin], fragment: str) -> Installed:
    """Write `programs` into the site's `install_dir` and the rest beside slurm.conf. OSError: they cannot be written."""
    folder = Path(site.install_dir)
    folder.mkdir(mode=_PROGRAM, parents=True, exist_ok=True)
    written, kept = [], []
    for program in programs:
        written.append(_write(folder / program.name, program.text, _PROGRAM if program.executable else _TEXT))
    for name in LINKS:
        written.append(_link(folder / name, "shim.py"))
    written.append(_write(conf_folder / "broker.conf", fragment, _TEXT))
    lines = gres_lines(site)
    if lines:
        written.append(_write(conf_folder / "broker-gres.conf", lines, _TEXT))
    if lines and _is_ours(conf_folder / "gres.conf"):
        written.append(_write(conf_folder / "gres.conf", _OURS + lines, _TEXT))
    elif lines:
        kept.append(conf_folder / "gres.conf")
    script = conf_folder / JOB_SUBMIT
    if script.exists():
        kept.append(script)
    else:
        written.append(_write(script, job_submit(site), _TEXT))
    return Installed(written=tuple(written), kept=tuple(kept))


def _is_ours(path: Path) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8", errors="replace").startswith(_OURS)


def _write(path: Path, text: str, mode: int) -> Path:
    """Whole or not at all: slurmctld may start these at any moment."""
    if path.is_dir():
        raise BrokerError(f"{path} is a folder: move it away")
    handle, hidden = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write(text)
            os.fchmod(target.fileno(), mode)
            if os.geteuid() == 0:
                os.fchown(target.fileno(), 0, 0)
            target.flush()
            os.fsync(target.fileno())
        Path(hidden).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(hidden).unlink()
        raise
    return path


def _link(path: Path, target: str) -> Path:
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    hidden.unlink(missing_ok=True)
    hidden.symlink_to(target)
    hidden.replace(path)
    return path
