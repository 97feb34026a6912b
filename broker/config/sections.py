"""The sections of `broker.toml`: their keys, defaults, ranges, and what must agree between them."""

import re
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal
from ipaddress import IPv4Network
from pathlib import Path

from broker.catalog import accelerators
from broker.config.billing import read_billing
from broker.config.credentials import USER_PATTERN, USER_RULE, read_provider
from broker.config.database import read_database
from broker.config.reading import InvalidConfig, Problem, Section, nearest, shown
from broker.config.settings import (
    NodeSettings,
    Overlay,
    Policy,
    ProviderSettings,
    Settings,
    SignalSettings,
    Site,
    SlurmRoad,
    SlurmSettings,
)
from broker.config.signals import read_signal
from broker.core.demand import Limits, Shape

KINDS = frozenset({"lambda", "vast"})
"""The adapters a configuration may name."""

_TABLES = ("site", "slurm", "overlay", "limits", "node", "policy", "billing")
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_PRIVATE = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
_DAY_S = 86400


def load(path: Path, environ: Mapping[str, str] | None = None, kinds: Collection[str] = KINDS) -> Settings:
    """Read and check `path`. `environ` (default: the process's) is where `api_key_env` looks.

    InvalidConfig, a ConfigError, names every problem of the file at once.
    """
    return parse(_read(path), path, environ, kinds)


def parse(text: str, path: Path, environ: Mapping[str, str] | None = None, kinds: Collection[str] = KINDS) -> Settings:
    """`load` for a text that is to become the file `path`."""
    problems: list[Problem] = []
    document = _document(text, path)
    sections = {name: _table(document, name, problems) for name in _TABLES}

    site = _site(sections["site"], environ)
    slurm = _slurm(sections["slurm"])
    limits = _limits(sections["limits"])
    node = _node(sections["node"], site)
    policy = _policy(sections["policy"])
    billing = read_billing(sections["billing"], environ, site.currency)
    shapes = _shapes(document.get("shape", []), problems)
    overlay = _overlay(sections["overlay"], shapes)
    providers = _providers(document.get("provider", {}), environ, kinds, problems)
    signals = _signals(document.get("signal", {}), environ, problems)
    _refuse_unknown(document, sections, problems)
    for section in sections.values():
        section.close()
    if problems:
        raise InvalidConfig(path, problems)
    return Settings(
        path=path,
        site=site,
        slurm=slurm,
        overlay=overlay,
        limits=limits,
        node=node,
        shapes=shapes,
        providers=providers,
        policy=policy,
        signals=signals,
        billing=billing,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = "there is no such file; write one with `broker init --output FILE`, or name yours with --config"
    except PermissionError:
        problem = "may not be read by this user; run as root or as the user broker (the file is root:broker 0640)"
    except OSError as exc:
        problem = f"cannot be read ({exc.strerror}); name a TOML file"
    except UnicodeDecodeError as exc:
        problem = f"byte {exc.start} is not UTF-8; save the file as UTF-8"
    raise InvalidConfig(path, [Problem(where="the file", text=problem)])


def _document(text: str, path: Path) -> dict[str, object]:
    try:
        # Decimals from the start: 2.49 read as a binary float is no longer 2.49.
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as exc:  # TOMLDecodeError; a number of too many digits; too deep a list
        problem = f"is not TOML: {exc}; texts stand in double quotes, sections in [brackets]"
        raise InvalidConfig(path, [Problem(where="the file", text=problem)]) from exc


def _refuse_unknown(document: Mapping[str, object], sections: Mapping[str, Section], problems: list[Problem]) -> None:
    names = (*_TABLES, "shape", "provider", "signal")
    for name, value in document.items():
        if name in names:
            continue
        if isinstance(value, (dict, list)):
            hint = nearest(name, names) or f"; the sections are {', '.join(names)}"
            text = f"there is no such section{hint}"
        else:
            home = next((section.where for section in sections.values() if section.knows(name)), None)
            text = f"stands outside of any section; move it below {f'[{home}]' if home else 'its own'}"
        problems.append(Problem(where=name, text=text))


def _table(document: Mapping[str, object], name: str, problems: list[Problem]) -> Section:
    value = document.get(name, {})
    if not isinstance(value, dict):
        problems.append(Problem(where=name, text=f"must be one section; write [{name}] and its keys below it"))
        # Its keys are unknown to us now: reading an empty table would only add "is missing" for each of them.
        return Section(name, {}, [])
    return Section(name, value, problems)


def _site(section: Section, environ: Mapping[str, str] | None) -> Site:
    currency = section.text("currency", "USD", pattern=r"[A-Z]{3}", rule='a currency code such as "USD"')
    if currency and currency != "USD":
        section.note("currency", f'"{currency}": providers bill in USD and no exchange rate is kept yet; write "USD"')
    database, password = read_database(section, environ)
    return Site(
        cluster=section.text(
            "cluster",
            pattern=rf"(?=.{{1,32}}$){_DNS_LABEL}",
            rule="the cluster's name at the providers: at most 32 of a-z, 0-9 and -, neither first nor last a -",
        ),
        currency=currency,
        operators=section.texts(
            "operators", ("root",), pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]*\$?", rule="the name of a Unix user"
        ),
        state_dir=section.path("state_dir", Path("/var/lib/broker")),
        run_dir=section.path("run_dir", Path("/run/broker")),
        spool_dir=section.path("spool_dir", Path("/var/spool/broker")),
        database=database,
        database_password=password,
        metrics_listen=_listen(section, "metrics_listen"),
    )


def _listen(section: Section, key: str) -> tuple[str, int] | None:
    text = section.text(
        key, "", pattern=r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", rule='host:port, such as "127.0.0.1:9101"'
    )
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not 1 <= int(port) <= 65535:
        section.note(key, f'"{text}": a port is a number from 1 to 65535')
    return host.strip("[]"), int(port)


def _slurm(section: Section) -> SlurmSettings:
    return SlurmSettings(
        conf=section.path("conf", Path("/etc/slurm/slurm.conf")),
        plugin_dir=section.path("plugin_dir", Path("/etc/slurm/broker")),
        resume_timeout_s=section.whole("resume_timeout_s", 1500, low=1, high=_DAY_S, unit="seconds"),
        suspend_timeout_s=section.whole("suspend_timeout_s", 60, low=1, high=_DAY_S, unit="seconds"),
        suspend_time_s=section.whole("suspend_time_s", 300, low=1, high=30 * _DAY_S, unit="seconds"),
        command_timeout_s=section.whole("command_timeout_s", 30, low=1, high=600, unit="seconds"),
        task_prolog=section.choice("task_prolog", {"yes", "no"}, "no") == "yes",
        road=SlurmRoad(section.choice("road", [road.value for road in SlurmRoad], "auto") or "auto"),
    )


def _limits(section: Section) -> Limits:
    return Limits(
        max_nodes=section.whole_or_none("max_nodes", low=0, high=65533, unit="nodes"),
        max_usd_per_hour=section.money_or_none("max_usd_per_hour"),
        max_price_per_gpu_hour=section.money_or_none("max_price_per_gpu_hour"),
    )


def _node(section: Section, site: Site) -> NodeSettings:
    return NodeSettings(
        ssh_user=section.text("ssh_user", "ubuntu", pattern=USER_PATTERN, rule=USER_RULE),
        lost_after_s=section.whole("lost_after_s", 120, low=8, high=_DAY_S, unit="seconds"),
        dead_man_s=section.whole("dead_man_s", 900, low=10, high=_DAY_S, unit="seconds"),
        bundle_dir=section.path("bundle_dir", site.state_dir / "bundle"),
        munge_key=section.path("munge_key", Path("/etc/munge/munge.key")),
        export_host_key=section.path("export_host_key", Path("/etc/broker/export-sshd.pub")),
        export_port=section.whole("export_port", 2022, low=1, high=65535),
    )


def _policy(section: Section) -> Policy:
    return Policy(mode=section.choice("mode", {"cheap"}, "cheap"))


def _shapes(value: object, problems: list[Problem]) -> tuple[Shape, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        problems.append(Problem(where="shape", text="must be a list of sections; write [[shape]], with two brackets"))
        return ()
    if not value:
        problems.append(
            Problem(where="shape", text="there is none; write one [[shape]] for each class of nodes that may be bought")
        )
    sections = [Section(f"shape[{number}]", table, problems) for number, table in enumerate(value, start=1)]
    shapes = tuple(_shape(section) for section in sections)
    first: dict[str, str] = {}
    for section, shape in zip(sections, shapes, strict=True):
        if shape.name and shape.name in first:
            section.note("name", f'"{shape.name}" is the name of {first[shape.name]} already; give each its own')
        first.setdefault(shape.name, section.where)
    return shapes


def _shape(section: Section) -> Shape:
    # Node names are <name>-<number> and host names at the same time, so capitals and 63 characters are the limits.
    name = section.text(
        "name", pattern=rf"(?=.{{1,50}}$){_DNS_LABEL}", rule="at most 50 of a-z, 0-9 and -, such as h100"
    )
    partition = section.text(
        "partition", pattern=r"(?!(?i:default)$)[A-Za-z0-9_-]+", rule="a partition's name (not DEFAULT)"
    )
    accelerator = _accelerator(section)
    count = section.whole("gpu_count", 1 if accelerator else 0, low=1, high=16, unit="GPUs")
    if section.has("gpu_count") and not section.has("gpu"):
        section.note("gpu_count", 'there is no gpu beside it; name the model (gpu = "H100") or take gpu_count out')
    shape = Shape(
        name=name,
        partition=partition,
        accelerator=accelerator,
        accelerator_count=count,
        cpus=section.whole("cpus", low=1, high=4096, unit="CPUs"),
        memory_gib=section.whole("memory_gib", low=1, high=65536, unit="GiB"),
        disk_gib=section.whole("disk_gib", low=1, high=1 << 20, unit="GiB"),
        nodes=section.whole("nodes", low=1, high=65533, unit="nodes"),
    )
    section.close()
    return shape


def _accelerator(section: Section) -> str | None:
    if not section.has("gpu"):
        section.text("gpu", "-")
        return None
    text = section.text("gpu", rule='a GPU model such as "H100"')
    name = accelerators.canonical(text) if text else None
    if text and name is None:
        hint = nearest(text, accelerators.names())
        section.note("gpu", f"{shown(text)} is no GPU we know{hint}; the models are {', '.join(accelerators.names())}")
    return name


def _overlay(section: Section, shapes: tuple[Shape, ...]) -> Overlay:
    names = tuple(f"{shape.name}-{number}" for shape in shapes for number in range(1, shape.nodes + 1))
    endpoint = section.text(
        "endpoint",
        pattern=r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]):\d{1,5}",
        rule="host:port, where machines on the internet reach this host by UDP",
    )
    if endpoint and not 1 <= int(endpoint.rpartition(":")[2]) <= 65535:
        section.note("endpoint", f'"{endpoint}": a port is a number from 1 to 65535')
    return Overlay(
        cidr=_cidr(section, len(names)),
        endpoint=endpoint,
        interface=section.text(
            "interface", "broker0", pattern=r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}", rule="1 to 15 of A-Z a-z 0-9 _ . -"
        ),
        mtu=section.whole("mtu", 1380, low=1280, high=8920, unit="bytes"),
        nodes=names,
    )


def _cidr(section: Section, nodes: int) -> IPv4Network:
    nothing = IPv4Network("0.0.0.0/0")
    text = section.text("cidr", rule='a private IPv4 network such as "10.77.0.0/16"')
    if not text:
        return nothing
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        section.note("cidr", f'{shown(text)} is no IPv4 network; write for example "10.77.0.0/16"')
        return nothing
    if text != str(network):
        section.note("cidr", f'{shown(text)} is not how the network is written; write "{network}"')
    if not any(network.subnet_of(private) for private in _PRIVATE):
        section.note("cidr", f"{network} is not private; take one of {', '.join(str(net) for net in _PRIVATE)}")
    # The network's own address and the broadcast address are nobody's.
    room = max(0, network.num_addresses - 2)
    if room < nodes + 1:
        fits = 32 - (nodes + 2).bit_length()
        section.note(
            "cidr", f"{network} has {room} addresses, and the hub and {nodes} nodes need {nodes + 1}; write /{fits}"
        )
    return network


def _providers(
    value: object, environ: Mapping[str, str] | None, kinds: Collection[str], problems: list[Problem]
) -> dict[str, ProviderSettings]:
    if isinstance(value, list) or not isinstance(value, dict):
        problems.append(Problem(where="provider", text="each credential has a name; write [provider.NAME]"))
        return {}
    if not value:
        problems.append(
            Problem(where="provider", text="there is none, so nothing could be bought; write a [provider.NAME]")
        )
    providers = {}
    for name, table in value.items():
        where = f"provider.{name}"
        if not isinstance(table, dict):
            problems.append(
                Problem(where=where, text="is a key outside of a credential; write it below [provider.NAME]")
            )
        elif not re.fullmatch(rf"(?=.{{1,32}}$){_DNS_LABEL}", name):
            problems.append(Problem(where=where, text="a credential's name has at most 32 of a-z, 0-9 and -"))
        else:
            providers[name] = read_provider(name, Section(where, table, problems), environ, kinds)
    _refuse_one_key_twice(providers, problems)
    return providers


def _signals(value: object, environ: Mapping[str, str] | None, problems: list[Problem]) -> tuple[SignalSettings, ...]:
    if not isinstance(value, dict):
        problems.append(Problem(where="signal", text="each source has a name; write [signal.NAME]"))
        return ()
    found = []
    for name, table in value.items():
        where = f"signal.{name}"
        if not isinstance(table, dict):
            problems.append(Problem(where=where, text="is a key outside of a source; write it below [signal.NAME]"))
        elif not re.fullmatch(rf"(?=.{{1,32}}$){_DNS_LABEL}", name):
            problems.append(Problem(where=where, text="a source's name has at most 32 of a-z, 0-9 and -"))
        else:
            found.append(read_signal(name, Section(where, table, problems), environ))
    return tuple(found)


def _refuse_one_key_twice(providers: Mapping[str, ProviderSettings], problems: list[Problem]) -> None:
    """A provider counts the calls of a key, and we those of a section: two of one key would go over its limit together."""
    first: dict[tuple[str, str | None, str], str] = {}
    for name, settings in providers.items():
        key = (settings.kind, settings.base_url, settings.api_key.reveal())
        if key[2] and key in first:
            problems.append(
                Problem(
                    where=f"provider.{name}",
                    text=f"has the same API key as provider.{first[key]}; keep one (`regions` says where it buys)",
                )
            )
        first.setdefault(key, name)
