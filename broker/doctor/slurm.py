"""Slurm's side: slurm.conf, the programs it calls, slurmctld as it runs, our rights there."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from broker.config import Settings
from broker.doctor import place
from broker.doctor.findings import Check, Finding, Unseen, fail, ok, skipped, warn
from broker.doctor.place import Entry, Ran
from broker.provisioning.bundle import Bundle
from broker.slurm import directives, hostlist
from broker.slurm.conf import SlurmSite, check
from broker.slurm.inlined import Source, read_inlined
from broker.slurm.plugins import LINKS, Plugin, plugins
from broker.slurm.wants import Need

TESTED = ("22.05",)
"""Releases of Slurm that the stories run on."""

_SECTION = "slurm"
_LIVE = ("ResumeProgram", "SuspendProgram", "ResumeFailProgram", "PrologSlurmctld", "ResumeTimeout", "SuspendTimeout")
"""Parameters that slurmctld must have read, not only slurm.conf's author."""

_NODE_PLUGINS = {
    "AuthType": "auth",
    "CredType": "cred",
    "ProctrackType": "proctrack",
    "TaskPlugin": "task",
    "JobAcctGatherType": "jobacct_gather",
    "AcctGatherEnergyType": "acct_gather_energy",
    "AcctGatherFilesystemType": "acct_gather_filesystem",
    "AcctGatherInterconnectType": "acct_gather_interconnect",
    "AcctGatherProfileType": "acct_gather_profile",
    "SelectType": "select",
    "SwitchType": "switch",
    "MpiDefault": "mpi",
    "JobContainerType": "job_container",
    "TopologyPlugin": "topology",
    "PrEpPlugins": "prep",
}
"""What slurmd and slurmstepd load as slurm.conf says → the plugin's kind. Defaults are Slurm's own and always packed."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """What is known of Slurm before it is looked at. `scripts`: path → text of programs that slurm.conf names."""

    site: SlurmSite
    source: Source
    scripts: Mapping[str, str]

    @property
    def conf(self) -> directives.SlurmConf:
        return directives.read(self.source.text)

    @property
    def uses_munge(self) -> bool:
        own = self.conf.value("AuthType")
        return own is None or own.text == "auth/munge"

    @property
    def user(self) -> str:
        """SlurmUser, under which Slurm runs our programs."""
        own = self.conf.value("SlurmUser")
        return own.text if own else "root"


def read(settings: Settings, site: SlurmSite, scripts: Mapping[str, str]) -> Slurm:
    """ConfigError: slurm.conf cannot be read."""
    return Slurm(site=site, source=read_inlined(settings.slurm.conf), scripts=scripts)


def checks(
    settings: Settings, slurm: Slurm, bundle: Bundle | None, packed: frozenset[str], munge: Callable[[], Ran]
) -> list[Check]:
    """`packed`: names of the files in the node bundle; `munge`: a credential made and decoded."""
    conf = settings.slurm.conf

    def with_munge(look: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
        # Without munge each of Slurm's commands would wait for its time-out and then blame slurmctld.
        if slurm.uses_munge and munge().code != 0:
            raise Unseen("Slurm's commands cannot be asked without munge (see keys)")
        return look()

    return [
        Check(
            section=_SECTION,
            name="slurmctld",
            look=lambda: with_munge(lambda: _slurmctld(settings, slurm, bundle)),
        ),
        Check(
            section=_SECTION,
            name="slurm.conf",
            look=lambda: judge_lint(slurm.source, slurm.site, slurm.scripts, conf),
        ),
        Check(section=_SECTION, name="programs", look=lambda: _programs(slurm.site, settings.path)),
        Check(section=_SECTION, name="AdminLevel", look=lambda: with_munge(lambda: _rights(settings, slurm))),
        Check(section=_SECTION, name="node addresses", look=lambda: with_munge(lambda: _addresses(settings))),
        Check(section=_SECTION, name="plugins on nodes", look=lambda: judge_plugins(slurm.conf, packed)),
        Check(section=_SECTION, name="plugstack.conf", look=lambda: _plugstack(settings, slurm)),
    ]


def judge_lint(source: Source, site: SlurmSite, scripts: Mapping[str, str], path: Path) -> list[Finding]:
    """Every finding of `broker slurm-conf --check`."""
    found = []
    for each in check(source.text, site, scripts):
        where = source.place(each.line) or path.name
        make = fail if each.severity is Need.REQUIRED else warn
        found.append(make(where, each.message, each.mend))
    limit = 5 * (_seconds(source, "ResumeTimeout", 60) + _seconds(source, "SuspendTimeout", 30))
    return found or [ok("slurm.conf", f"has all that is needed; srun waits {limit} s for its nodes")]


def judge_program(plugin: Plugin, path: Path, seen: Entry | None, text: str | None, mend: str) -> Finding:
    """An installed program against the one this release ships for this configuration."""
    name = str(path)
    if seen is None:
        return fail(name, "is missing: Slurm cannot call us", mend)
    if plugin.executable and seen.mode & 0o111 != 0o111:
        return fail(name, f"mode {seen.mode:04o} is not executable: Slurm cannot call us", f"chmod 0755 {path}")
    if seen.mode & 0o022:
        seen_text = f"mode {seen.mode:04o}: others may write to it, and Slurm then switches power saving off"
        return fail(name, seen_text, f"chmod {'0755' if plugin.executable else '0644'} {path}")
    if text != plugin.text:
        return fail(name, "is not what this release and this broker.toml make it", mend)
    return ok(name, "as shipped")


def judge_link(path: Path, target: str | None, mend: str) -> Finding:
    """`target`: what the link names; None: it is not there or is no link."""
    if target == "shim.py":
        return ok(str(path), "as shipped")
    seen = "is missing" if target is None else f"leads to {target}, not to shim.py"
    return fail(str(path), f"{seen}: Slurm cannot call us", mend)


def judge_ping(ran: Ran) -> Finding | None:
    """None: slurmctld answers."""
    if ran.code == place.NOT_INSTALLED:
        return fail("slurmctld", f"{ran.said}: Slurm's commands are missing here", "apt-get install slurm-client")
    if ran.code != 0 or "is UP" not in ran.out:
        return fail(
            "slurmctld", ran.said, "systemctl start slurmctld; then its own log: SlurmctldLogFile of slurm.conf"
        )
    return None


def judge_running(conf: directives.SlurmConf, running: Mapping[str, str]) -> list[Finding]:
    """`running`: what slurmctld says it runs with, by parameter."""
    found = []
    for parameter in _LIVE:
        own, live = conf.value(parameter), running.get(parameter)
        if own is None or live is None:
            continue
        if _plain(own.text) != _plain(live):
            seen = f"{parameter} is {live} in slurmctld, {own.text} in slurm.conf: it was not read since"
            found.append(fail("slurmctld", seen, "scontrol reconfigure (for new nodes: systemctl restart slurmctld)"))
    return found


def judge_version(slurmctld: str, bundle: str | None) -> list[Finding]:
    """Releases as `22.05.8`. A node may run two releases older than slurmctld, never a newer one."""
    found = []
    ours, theirs = _release(slurmctld), _release(bundle or "")
    if ours and ours < _release(TESTED[0]):
        mend = f"upgrade Slurm to {TESTED[0]} or later"
        found.append(fail("Slurm's release", f"slurmctld is {slurmctld}: elastic partitions need more", mend))
    elif not slurmctld.startswith(TESTED):
        mend = "rehearse with one job, max_nodes = 1"
        found.append(warn("Slurm's release", f"slurmctld is {slurmctld}; tested is {', '.join(TESTED)}", mend))
    if bundle is not None and ours and theirs and theirs != ours:
        seen = f"nodes get slurmd {bundle}, slurmctld is {slurmctld}"
        make = fail if theirs > ours else warn
        found.append(make("slurmd of the bundle", seen, "broker node-bundle build && systemctl restart broker"))
    return found or [ok("Slurm's release", f"{slurmctld}, on the nodes {bundle or 'none: there is no bundle'}")]


def judge_rights(user: str, slurm_user: str, with_accounting: bool, ran: Ran | None) -> Finding:
    """Whether the daemon's user may set nodes down. `ran`: sacctmgr's answer with its AdminLevel."""
    name = f"AdminLevel of {user}"
    if user in {slurm_user, "root"}:
        return ok(name, "is SlurmUser or root")
    if not with_accounting or ran is None:
        seen = f"without slurmdbd only {slurm_user} and root may set nodes down"
        return fail(name, seen, f"set up slurmdbd, or let the daemon run as {slurm_user} (User= in broker.service)")
    if ran.code != 0:
        mend = "systemctl start slurmdbd; then: sacctmgr show user broker"
        return fail(name, f"slurmdbd does not tell it: {ran.said}", mend)
    levels = [line.strip("| ") for line in ran.out.splitlines() if line.strip("| ")]
    if not levels:
        mend = f"sacctmgr -i add user {user} Account=YOUR_ACCOUNT AdminLevel=Admin"
        return fail(name, f"slurmdbd knows no user {user}: it may not set nodes down", mend)
    if levels[0] != "Administrator":
        mend = f"sacctmgr -i modify user where name={user} set AdminLevel=Admin"
        return fail(name, f"is {levels[0]}: it may not set nodes down", mend)
    return ok(name, "Administrator")


def judge_addresses(wanted: Mapping[str, IPv4Address], shown: Mapping[str, str]) -> list[Finding]:
    """`shown`: NodeAddr of each node in slurmctld's eyes."""
    missing = [name for name in wanted if name not in shown]
    if missing:
        seen = f"slurmctld does not know {hostlist.fold(missing)}"
        mend = "systemctl restart slurmctld, and slurmd on every node (before 23.11 nothing less adds nodes)"
        return [fail("node addresses", seen, mend)]
    stray = [name for name, address in wanted.items() if shown[name] != str(address)]
    if not stray:
        return [ok("node addresses", f"{len(wanted)} nodes have their overlay addresses in slurmctld")]
    first = stray[0]
    seen = f"NodeAddr of {first} is {shown[first]} in slurmctld, not {wanted[first]}" + (
        f", and {len(stray) - 1} more are wrong" if stray[1:] else ""
    )
    return [fail("node addresses", seen, f"scontrol update NodeName={first} NodeAddr={wanted[first]}")]


def judge_plugins(conf: directives.SlurmConf, packed: frozenset[str]) -> list[Finding]:
    """Plugins that slurm.conf makes a node's slurmd load and the bundle does not have."""
    if not packed:
        return [skipped("plugins on nodes", "there is no node bundle (see bundle)")]
    found = []
    files = {name.rpartition("/")[2] for name in packed}
    for parameter, kind in _NODE_PLUGINS.items():
        own = conf.value(parameter)
        for entry in own.entries if own else ():
            which = entry.rpartition("/")[2].lower()
            if which == "none" or f"{kind}_{which}.so" in files:
                continue
            seen = f"{parameter}={entry}: the bundle has no {kind}_{which}.so, so slurmd would not start on a node"
            mend = "install its libraries here, then: broker node-bundle build && systemctl restart broker"
            found.append(fail("plugins on nodes", seen, mend))
    return found or [ok("plugins on nodes", "the bundle has every plugin that slurm.conf names")]


def judge_plugstack(path: Path, text: str | None) -> list[Finding]:
    """SPANK plugins: a `required` one that a node lacks lets no job start there."""
    if text is None:
        return [ok("plugstack.conf", "none: no SPANK plugin is missed on a node")]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words[:1] == ["required"] and len(words) > 1:
            seen = f"line {number} requires {words[1]}, which rented nodes lack: no job starts there"
            found.append(fail("plugstack.conf", seen, f"in {path}: optional {' '.join(words[1:])}"))
    return found or [ok("plugstack.conf", f"{path} requires nothing that a node lacks")]


def _slurmctld(settings: Settings, slurm: Slurm, bundle: Bundle | None) -> Iterable[Finding]:
    silent = judge_ping(place.run(["scontrol", "ping"], slurm_conf=settings.slurm.conf))
    if silent is not None:
        return [silent]
    running = _config(place.run(["scontrol", "show", "config"], slurm_conf=settings.slurm.conf).out)
    version = running.get("SLURM_VERSION", "")
    return [
        ok("slurmctld", "answers"),
        *judge_running(slurm.conf, running),
        *judge_version(version, bundle.slurm_version if bundle else None),
    ]


def _config(text: str) -> dict[str, str]:
    """`Name = value` lines of `scontrol show config`."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _programs(site: SlurmSite, config: Path) -> list[Finding]:
    folder = Path(site.install_dir)
    mend = f"broker slurm-conf --config {config} --install {folder}"
    found = [
        judge_program(
            plugin, folder / plugin.name, place.entry(folder / plugin.name), _text(folder / plugin.name), mend
        )
        for plugin in plugins(site)
    ]
    found += [judge_link(folder / name, _target(folder / name), mend) for name in LINKS]
    return [each for each in found if each.mend] or [ok("programs", f"{len(found)} in {folder}, as shipped")]


def _rights(settings: Settings, slurm: Slurm) -> list[Finding]:
    state = place.entry(settings.site.state_dir)
    user = state.owner if state else "broker"
    storage = slurm.conf.value("AccountingStorageType")
    with_accounting = storage is not None and storage.text.lower().endswith("slurmdbd")
    ran = None
    if with_accounting:
        question = ["sacctmgr", "--noheader", "--parsable2", "show", "user", user, "format=AdminLevel"]
        ran = place.run(question, slurm_conf=settings.slurm.conf)
    return [judge_rights(user, slurm.user, with_accounting, ran)]


def _addresses(settings: Settings) -> list[Finding]:
    ran = place.run(["scontrol", "--all", "--oneliner", "show", "nodes"], slurm_conf=settings.slurm.conf)
    if ran.code != 0:
        return [skipped("node addresses", f"only slurmctld can tell: {ran.said}")]
    shown = dict(re.findall(r"^NodeName=(\S+) .*?\bNodeAddr=(\S+)", ran.out, re.MULTILINE))
    return judge_addresses(settings.overlay.addresses(), shown)


def _plugstack(settings: Settings, slurm: Slurm) -> list[Finding]:
    own = slurm.conf.value("PlugStackConfig")
    path = Path(own.text) if own else settings.slurm.conf.parent / "plugstack.conf"
    return judge_plugstack(path, _text(path))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _target(path: Path) -> str | None:
    return str(path.readlink()) if path.is_symlink() else None


def _seconds(source: Source, parameter: str, default: int) -> int:
    own = directives.read(source.text).value(parameter)
    return int(own.text) if own is not None and own.text.isdecimal() else default


def _plain(value: str) -> str:
    return value.lower().removesuffix(" sec").strip()


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
