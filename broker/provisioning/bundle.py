"""The node bundle: the controller's own Slurm, munge, WireGuard and sshfs, with their libraries, in one archive.

It runs on any distribution of the same CPU family: programs carry the bundle's own dynamic loader and library path
(DT_RPATH, which a job's LD_LIBRARY_PATH cannot override): nothing of it leaks into jobs, and nothing of theirs into it.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.core.errors import BrokerError, ConfigError

LAYOUT = 1
"""Part of the bundle's id: raise it when the same inputs are packed differently."""

HOME = "/opt/broker"
"""Where bundles are unpacked on a node; interpreter and library paths point into it."""

_DAEMONS = ("slurmd", "slurmstepd", "munged")
_CLIENTS_NEEDED = ("srun", "scontrol")
_CLIENTS_WELCOME = (
    "sacct", "salloc", "sattach", "sbatch", "sbcast", "scancel", "sinfo", "sprio", "squeue", "sstat",
)  # fmt: skip
_TOOLS = ("munge", "unmunge", "wg", "wireguard-go", "sshfs")
_PACKAGES = {
    "slurmd": "slurmd", "slurmstepd": "slurmd", "srun": "slurm-client", "scontrol": "slurm-client",
    "munged": "munge", "munge": "munge", "unmunge": "munge",
    "wg": "wireguard-tools", "wireguard-go": "wireguard-go", "sshfs": "sshfs",
}  # fmt: skip

_CONTROLLER_ONLY = re.compile(
    r"accounting_storage_mysql|burst_buffer_|jobcomp_|job_submit_|mcs_|openapi_|preempt_|priority_|rest_auth_|sched_"
    r"|site_factor_|slurmctld_|libslurm_pmi|power_|node_features_knl|spank_|.*cray"
)
_LOADED_AT_RUN_TIME = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2")
"""No `ldd` names these: libc opens them when a thread is cancelled and when a name is looked up."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SystemUser:
    """A daemon's account as the controller knows it."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A built archive. `prefix` is the folder it unpacks to on a node; `plugin_dir` what Slurm has compiled in."""

    path: Path
    sha256: str
    size_bytes: int
    id: str
    prefix: str
    arch: str
    slurm_version: str
    plugin_dir: str
    slurm: SystemUser | None
    munge: SystemUser | None
    commands: tuple[str, ...]
    command_dir: str
    """Where the controller has its client commands: the PATH that a job brings along finds the node's there too."""


def build(
    output_dir: Path,
    slurmd: str = "/usr/sbin/slurmd",
    *,
    slurm_user: str = "slurm",
    progress: Progress = lambda _line: None,
) -> Bundle:
    """Pack this machine's Slurm into `output_dir`, or find the bundle there when the same inputs were packed before.

    The same inputs give the same bytes. BrokerError: a program is missing, a library cannot be found, patchelf failed.
    """
    programs = _programs(Path(slurmd))
    plugin_dir = _plugin_dir(programs["sbin/slurmd"])
    plugins, skipped = _plugins(plugin_dir)
    libraries = _libraries([*programs.values(), *plugins.values()])
    loader = Path(_patchelf("--print-interpreter", str(programs["sbin/slurmd"])).strip())
    sources = {**programs, **plugins, **libraries, f"lib/{loader.name}": loader}
    if skipped:
        progress(f"left out {len(skipped)} plugins whose libraries are not installed here: {', '.join(skipped)}")

    users = {name: _system_user(name) for name in (slurm_user, "munge")}
    bundle_id = _inputs_id(sources, plugin_dir, users)
    archive = output_dir / f"bundle-{bundle_id}.tar.gz"
    if archive.exists():
        progress(f"{archive.name} is up to date")
        os.utime(archive)  # `find_bundle` takes the newest
        return load(archive)

    progress(f"packing {len(programs)} programs, {len(plugins)} plugins and {len(libraries)} libraries")
    manifest: dict[str, object] = {
        "layout": LAYOUT,
        "id": bundle_id,
        "prefix": f"{HOME}/bundle-{bundle_id}",
        "arch": platform.machine(),
        "slurm_version": _slurm_version(Path(slurmd)),
        "plugin_dir": str(plugin_dir),
        "slurm_user": slurm_user,
        "users": {name: {"uid": user.uid, "gid": user.gid} for name, user in users.items() if user},
        "command_dir": str(programs["bin/srun"].parent),
        "commands": sorted(name for name in (*_CLIENTS_NEEDED, *_CLIENTS_WELCOME) if f"bin/{name}" in programs),
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output_dir) as scratch:
        tree = Path(scratch) / "tree"
        _copy_and_patch(sources, tree, f"{HOME}/bundle-{bundle_id}", loader.name)
        manifest["files"] = {name: _sha256(tree / name) for name in sorted(sources)}
        part = Path(scratch) / archive.name
        _write_archive(part, tree, f"bundle-{bundle_id}", manifest, sorted(sources))
        part.rename(archive)
    bundle = load(archive)
    progress(f"{archive.name}: {bundle.size_bytes / 1e6:.1f} MB, Slurm {bundle.slurm_version}, {bundle.arch}")
    return bundle


def load(archive: Path) -> Bundle:
    """Read what an archive holds. BrokerError: it is missing or not one of our bundles."""
    try:
        return _described(archive, _manifest_of(archive))
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError) as exc:
        raise BrokerError(
            f"node bundle {archive} cannot be used ({type(exc).__name__}: {exc}); delete it and build it again: "
            f"broker node-bundle build --output {archive.parent}"
        ) from exc


def verify(archive: Path) -> frozenset[str]:
    """The names of the files in an archive, each held against its checksum. BrokerError: it is damaged."""
    try:
        expected: dict[str, str] = _manifest_of(archive)["files"]
        with tarfile.open(archive, "r:gz") as tar:
            seen = {
                member.name.partition("/")[2]: hashlib.sha256(stream.read()).hexdigest()
                for member in tar
                if member.isfile() and (stream := tar.extractfile(member)) is not None
            }
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError) as exc:
        raise BrokerError(f"node bundle {archive} is damaged ({type(exc).__name__}: {exc})") from exc
    damaged = sorted(name for name, checksum in expected.items() if seen.get(name) != checksum)
    if damaged:
        raise BrokerError(f"node bundle {archive} is damaged: {', '.join(damaged[:3])} differ from its manifest")
    return frozenset(expected)


def _manifest_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive, "r:gz") as tar:
        first = tar.next()
        stream = tar.extractfile(first) if first and first.name.endswith("/manifest.json") else None
        if stream is None:
            raise ValueError("it has no manifest")
        manifest: dict[str, Any] = json.load(stream)
        return manifest


def _described(archive: Path, manifest: Mapping[str, Any]) -> Bundle:
    return Bundle(
        path=archive,
        sha256=_sha256(archive),
        size_bytes=archive.stat().st_size,
        id=manifest["id"],
        prefix=manifest["prefix"],
        arch=manifest["arch"],
        slurm_version=manifest["slurm_version"],
        plugin_dir=manifest["plugin_dir"],
        slurm=_user_of(manifest, manifest["slurm_user"]),
        munge=_user_of(manifest, "munge"),
        commands=tuple(manifest["commands"]),
        command_dir=manifest["command_dir"],
    )


def find_bundle(folder: Path) -> Bundle:
    """The bundle that was built last into `folder`. ConfigError: there is none."""
    archives = sorted(folder.glob("bundle-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    if not archives:
        raise ConfigError(f"node bundle: none in {folder}; build it: broker node-bundle build --output {folder}")
    return load(archives[-1])


def _programs(slurmd: Path) -> dict[str, Path]:
    """Place in the bundle → file here. Slurm's own are looked for beside `slurmd` first: one release is packed."""
    prefix = slurmd.parent.parent
    path = ":".join(map(str, [slurmd.parent, prefix / "bin", "/usr/bin", "/usr/sbin", "/usr/local/bin"]))
    needed = {
        **{f"sbin/{name}": name for name in _DAEMONS},
        **{f"bin/{name}": name for name in (*_CLIENTS_NEEDED, *_CLIENTS_WELCOME, *_TOOLS)},
    }
    found: dict[str, Path] = {}
    for place, name in needed.items():
        where = str(slurmd) if name == "slurmd" and slurmd.exists() else shutil.which(name, path=path)
        if where is None or not Path(where).exists():
            if name in _CLIENTS_WELCOME:
                continue
            raise BrokerError(
                f"node bundle: {name} is not installed here (looked in {path}); "
                f"install it (Debian package {_PACKAGES[name]}) or name slurmd's path with --slurmd"
            )
        found[place] = Path(where)
    return found


def _plugin_dir(slurmd: Path) -> Path:
    """Slurm installs libslurmfull.so into its PluginDir, so the linker tells what is compiled in."""
    for name, path in _linked(slurmd).items():
        if name == "libslurmfull.so" and path:
            return Path(path).parent
    raise BrokerError(f"node bundle: {slurmd} does not use libslurmfull.so; it is not a Slurm daemon we can pack")


def _plugins(plugin_dir: Path) -> tuple[dict[str, Path], list[str]]:
    chosen = [path for path in sorted(plugin_dir.glob("*_*.so")) if not _CONTROLLER_ONLY.match(path.name)]
    with ThreadPoolExecutor(4) as pool:
        linked = list(pool.map(_linked, chosen))
    whole = {f"plugins/{path.name}": path for path, libs in zip(chosen, linked, strict=True) if all(libs.values())}
    return whole, sorted(path.name for path in chosen if f"plugins/{path.name}" not in whole)


def _libraries(files: Iterable[Path]) -> dict[str, Path]:
    with ThreadPoolExecutor(4) as pool:
        linked = list(pool.map(_linked, files))
    libraries: dict[str, Path] = {}
    for libs in linked:
        for name, path in libs.items():
            if path is None:
                raise BrokerError(f"node bundle: the library {name} is not installed here; install its package")
            libraries[f"lib/{name}"] = Path(path)
    libc = libraries["lib/libc.so.6"]
    for name in _LOADED_AT_RUN_TIME:
        if (libc.parent / name).exists():
            libraries[f"lib/{name}"] = libc.parent / name
    return libraries


_LDD_LINE = re.compile(r"^\s+(?P<name>\S+) => (?P<path>/\S+|not found)")


def _linked(program: Path) -> dict[str, str | None]:
    """Library name → its file, None where the linker finds none."""
    # ldd leaves with 1 and "not a dynamic executable" for a static program: nothing is linked, nothing is wrong.
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=60, check=False)
    matches = map(_LDD_LINE.match, done.stdout.splitlines())
    return {m["name"]: None if m["path"] == "not found" else m["path"] for m in matches if m}


def _inputs_id(sources: Mapping[str, Path], plugin_dir: Path, users: Mapping[str, SystemUser | None]) -> str:
    digest = hashlib.sha256(f"{LAYOUT} {platform.machine()} {plugin_dir} {sorted(users.items())}\n".encode())
    for name in sorted(sources):
        digest.update(f"{name} {_sha256(sources[name])}\n".encode())
    return digest.hexdigest()[:12]


def _copy_and_patch(sources: Mapping[str, Path], tree: Path, prefix: str, loader: str) -> None:
    for name, source in sources.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.resolve(), target)
        target.chmod(0o755)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: _patch(tree / name, prefix, loader), sorted(sources)))


def _patch(file: Path, prefix: str, loader: str) -> None:
    if file.parent.name == "lib" and file.name.startswith(("ld-", "ld64", "libc.so")):
        return
    run_path = ["--force-rpath", "--set-rpath", f"{prefix}/lib"]
    if file.parent.name in ("bin", "sbin"):
        _patchelf("--set-interpreter", f"{prefix}/lib/{loader}", *run_path, str(file))
    elif _patchelf("--print-rpath", str(file)).strip():
        # A RUNPATH of its own would hide the program's RPATH from this library's dependencies.
        _patchelf(*run_path, str(file))


def _patchelf(*arguments: str) -> str:
    beside = Path(sys.executable).with_name("patchelf")
    tool = str(beside) if beside.exists() else shutil.which("patchelf")
    if tool is None:
        raise BrokerError("node bundle: patchelf is missing; install the Python package patchelf beside broker")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise BrokerError(f"node bundle: patchelf {arguments[-1]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _write_archive(path: Path, tree: Path, top: str, manifest: Mapping[str, object], names: Iterable[str]) -> None:
    """Level 2: level 9 saves a tenth of the size for ten times the time, and a datacentre's line is fast."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 2, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        _add(tar, f"{top}/manifest.json", io.BytesIO(text), len(text), 0o644)
        for name in names:
            with (tree / name).open("rb") as stream:
                _add(tar, f"{top}/{name}", stream, (tree / name).stat().st_size, 0o755)


def _add(tar: tarfile.TarFile, name: str, stream: io.BufferedIOBase, size: int, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, 0
    tar.addfile(entry, stream)


def _slurm_version(slurmd: Path) -> str:
    done = subprocess.run([str(slurmd), "-V"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"\d+\.\d+\.\d+\S*", done.stdout)
    if not found:
        raise BrokerError(f"node bundle: {slurmd} -V says {(done.stdout + done.stderr).strip()!r}, not a version")
    return found[0]


def _system_user(name: str) -> SystemUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return SystemUser(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def _user_of(manifest: Mapping[str, Any], name: str) -> SystemUser | None:
    entry = manifest["users"].get(name)
    return SystemUser(name=name, uid=entry["uid"], gid=entry["gid"]) if entry else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
