"""Holds a site's slurm.conf against what the elastic partitions need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.core.errors import BrokerError
from broker.slurm import directives, hostlist
from broker.slurm.directives import Record, SlurmConf
from broker.slurm.site import SlurmSite, names_of, node_line, partition_line
from broker.slurm.wants import Fit, Need, Want, wants

JOB_SUBMIT = "job_submit.lua"
"""The key under which `scripts` carries the site's job_submit.lua."""

_NO_LIMIT = frozenset({"INFINITE", "UNLIMITED", "-1"})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`line`: in the text that was checked, None when something is missing. `mend`: what to write or do."""

    severity: Need
    line: int | None
    message: str
    mend: str


def check(slurm_conf: str, site: SlurmSite, scripts: Mapping[str, str] | None = None) -> list[Finding]:
    """Everything that is wrong or could be better, required things first. `slurm_conf` has its includes in it.

    `scripts`: path → text of the programs it names, and `job_submit.lua`; those that are left out are not looked into.
    """
    conf = directives.read(slurm_conf)
    known = scripts or {}
    found = [
        *_parameters(conf, site, known),
        *_submit(conf, known),
        *_node_programs(conf, site),
        *_power_saving(conf, site),
        *_selection(conf, site),
        *_accounting(conf, site),
        *_controller(conf, site),
        *_nodes(conf, site),
        *_partitions(conf, site),
    ]
    return sorted(found, key=lambda finding: (finding.severity is not Need.REQUIRED, finding.line or 0))


def _required(message: str, mend: str, line: int | None = None) -> Finding:
    return Finding(severity=Need.REQUIRED, line=line, message=message, mend=mend)


def _advised(message: str, mend: str, line: int | None = None) -> Finding:
    return Finding(severity=Need.ADVISED, line=line, message=message, mend=mend)


def _parameters(conf: SlurmConf, site: SlurmSite, scripts: Mapping[str, str]) -> Iterator[Finding]:
    for want in wants(site):
        own = conf.value(want.parameter)
        values = {value.text for value in conf.parameters.get(want.parameter.lower(), ())}
        if len(values) > 1 and own is not None:
            yield _advised(
                f"{want.parameter} is set {len(values)} times; Slurm takes only the last, {own.text}",
                f"keep one line: {want.mended(own)}",
                own.line,
            )
        if want.suffices(own, scripts):
            continue
        if own is None:
            yield Finding(
                severity=want.need,
                line=None,
                message=f"{want.parameter} is not set: {want.why}",
                mend=want.mended(None),
            )
        elif want.fit is Fit.CHAIN:
            yield _program(want, own, own.text in scripts)
        else:
            yield Finding(
                severity=want.need,
                line=own.line,
                message=f"{want.parameter}={own.text} does not suffice: {want.why}",
                mend=want.mended(own),
            )


def _program(want: Want, own: directives.Value, seen: bool) -> Finding:
    if not own.text.startswith("/"):
        return _required(
            f"{want.parameter}={own.text} is no absolute path: Slurm switches it off with a line in its log",
            want.mended(own),
            own.line,
        )
    if want.parameter == "PrologSlurmctld":
        mend = f"keep it, and let its last line be: exec {want.value}"
    else:
        mend = f'{want.mended(own)}, or let yours call: {want.value} "$1"'
    unsure = "does not call ours" if seen else "is not ours, and whether it calls ours could not be read"
    return _required(f"{want.parameter}={own.text} {unsure}: Slurm knows only one", mend, own.line)


def _submit(conf: SlurmConf, scripts: Mapping[str, str]) -> Iterator[Finding]:
    plugins = conf.value("JobSubmitPlugins")
    if plugins is not None and "lua" in plugins.entries and "broker" not in scripts.get(JOB_SUBMIT, "broker"):
        yield _required(
            f"{JOB_SUBMIT} does not call broker.lua: wrong wishes are found only when the job waits for its machine",
            "add the lines that stand at the head of broker.lua",
            plugins.line,
        )


def _node_programs(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    for parameter in ("Prolog", "Epilog"):
        own = conf.value(parameter)
        if own is not None and own.text:
            yield _required(
                f"{parameter}={own.text} runs on every node, and rented nodes have no such file: they fail and drain",
                f"take it out, or bring {own.text} to the nodes by a step of your own",
                own.line,
            )
    for parameter in ("TaskProlog", "TaskEpilog", "HealthCheckProgram"):
        own = conf.value(parameter)
        if own is not None and own.text not in {"", f"{site.install_dir}/task_prolog.sh"}:
            yield _advised(
                f"{parameter}={own.text} runs on every node, and rented nodes have no such file",
                "see that jobs of the elastic partitions do without it",
                own.line,
            )
    limit = conf.value("PrologEpilogTimeout")
    if limit is not None and limit.text.isdecimal() and int(limit.text) < site.resume_timeout_s:
        yield _required(
            f"PrologEpilogTimeout={limit.text} ends the wait for a machine that takes longer, and requeues the job",
            f"PrologEpilogTimeout={site.resume_timeout_s} or more, or none",
            limit.line,
        )


def _power_saving(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    suspend = conf.value("SuspendTime")
    if suspend is not None and suspend.text.upper() not in _NO_LIMIT:
        yield _advised(
            f"SuspendTime={suspend.text} for the whole cluster powers your own nodes down, too, by our program",
            "SuspendTime=INFINITE; elastic partitions have a SuspendTime of their own",
            suspend.line,
        )
    ours = {name for names in site.partitions.values() for name in names}
    excepted = conf.value("SuspendExcParts")
    for name in excepted.entries if excepted else ():
        if name in site.partitions and excepted:
            yield _required(
                f"SuspendExcParts names {name}: its machines would never be given back",
                f"take {name} out",
                excepted.line,
            )
    nodes = conf.value("SuspendExcNodes")
    kept = ours & set(_expanded(nodes.text.partition(":")[0])) if nodes else set()
    if nodes and kept:
        yield _advised(
            f"SuspendExcNodes keeps {hostlist.fold(kept)} running for ever, and paid for", "take them out", nodes.line
        )
    requeue = conf.value("JobRequeue")
    if requeue is not None and requeue.text == "0":
        yield _advised(
            "JobRequeue=0: a job whose machine fails is lost, unless it was submitted with --requeue",
            "JobRequeue=1",
            requeue.line,
        )
    parameters = conf.value("SlurmctldParameters")
    for entry in parameters.entries if parameters else ():
        if entry.lower() in {"cloud_reg_addrs", "cloud_dns"} and parameters:
            yield _advised(
                f"SlurmctldParameters has {entry}: node names have fixed addresses here, Slurm need not look for them",
                f"take {entry} out",
                parameters.line,
            )


def _selection(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    select = conf.value("SelectType")
    wanted = (
        "SelectType=select/cons_tres and SelectTypeParameters=CR_Core_Memory; running jobs do not survive the change"
    )
    if select is None and site.release < (23, 11):
        yield _required("SelectType is not set: select/linear, the default, cannot share out GPUs", wanted)
    elif select is not None and select.text.lower() != "select/cons_tres":
        yield _required(f"SelectType={select.text} cannot share out GPUs by --gpus", wanted, select.line)
    topology = conf.value("TopologyPlugin")
    if topology is not None and topology.text.lower() not in {"topology/none", "topology/default", "topology/flat"}:
        yield _advised(
            f"TopologyPlugin={topology.text}: jobs find only nodes that topology.conf names",
            f"name them there: SwitchName=broker Nodes={_all_names(site)}",
            topology.line,
        )


def _accounting(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    storage, kept = conf.value("AccountingStorageType"), conf.value("AccountingStorageTRES")
    if storage is None or storage.text.lower().endswith("/none"):
        return
    entries = {entry.lower() for entry in kept.entries} if kept else set()
    if any(shape.accelerator for shape in site.shapes) and "gres/gpu" not in entries:
        yield _advised(
            "AccountingStorageTRES lacks gres/gpu: sacct and sreport do not see who used GPUs, limits cannot count them",
            f"AccountingStorageTRES={','.join([*(kept.entries if kept else ()), 'gres/gpu'])}",
            kept.line if kept else None,
        )


def _controller(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    for host in conf.parameters.get("slurmctldhost", ()):
        name, _, address = host.text.partition("(")
        address = address.rstrip(")")
        if address and address not in {site.hub, name}:
            yield _required(
                f"SlurmctldHost={host.text}: rented nodes reach the controller by the overlay only, at {site.hub}",
                f"SlurmctldHost={name}, without an address; the nodes' /etc/hosts says {site.hub} for it",
                host.line,
            )


def _nodes(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    declared: dict[str, tuple[Record, str]] = {}
    for record in conf.nodes:
        names = _expanded(record.name)
        addresses = _expanded(record.fields.get("nodeaddr", ""))
        for i, name in enumerate(names):
            declared[name] = (record, addresses[i] if len(addresses) == len(names) else "")
    for shape in site.shapes:
        names = names_of(shape)
        missing = [name for name in names if name not in declared]
        if missing:
            yield _required(
                f"{hostlist.fold(missing)}: no NodeName line declares {'it' if len(missing) == 1 else 'them'}",
                node_line(site, shape),
            )
        stray = [name for name in names if name in declared and declared[name][1] != site.addresses[name]]
        if stray:
            yield _required(
                f"{hostlist.fold(stray)}: NodeAddr is not the overlay's address",
                node_line(site, shape),
                declared[stray[0]][0].line,
            )
        solid = [
            name for name in names if name in declared and declared[name][0].fields.get("state", "").upper() != "CLOUD"
        ]
        if solid:
            yield _required(
                f"{hostlist.fold(solid)}: the state is not CLOUD, so Slurm takes the machines for broken ones",
                node_line(site, shape),
                declared[solid[0]][0].line,
            )


def _partitions(conf: SlurmConf, site: SlurmSite) -> Iterator[Finding]:
    declared = {record.name: record for record in conf.partitions}
    for name, nodes in site.partitions.items():
        line = partition_line(site, name)
        record = declared.get(name)
        if record is None:
            yield _required(f"partition {name} is not declared", line)
            continue
        members = record.fields.get("nodes", "")
        outside = set() if members.upper() == "ALL" else set(nodes) - set(_expanded(members))
        if outside:
            yield _required(f"partition {name} lacks {hostlist.fold(outside)}", line, record.line)
        if record.fields.get("exclusiveuser", "NO").upper() not in {"YES", "TRUE", "1"}:
            yield _required(
                f"partition {name} is not ExclusiveUser=YES: a node holds the home of one user at a time",
                line,
                record.line,
            )
        if "suspendtime" not in record.fields and conf.value("SuspendTime") is None:
            yield _required(
                f"partition {name} has no SuspendTime, nor has the cluster: power saving is off", line, record.line
            )
        yield from _partition_times(conf, record)


def _partition_times(conf: SlurmConf, record: Record) -> Iterator[Finding]:
    for parameter in ("ResumeTimeout", "SuspendTimeout"):
        own, whole = record.fields.get(parameter.lower(), ""), conf.value(parameter)
        limit = whole.text if whole else {"ResumeTimeout": "60", "SuspendTimeout": "30"}[parameter]
        if own.isdecimal() and limit.isdecimal() and int(own) > int(limit):
            yield _required(
                f"partition {record.name} has {parameter}={own}, the cluster {limit}: srun goes by the cluster's",
                f"{parameter}={own}",
                whole.line if whole else record.line,
            )


def _all_names(site: SlurmSite) -> str:
    return hostlist.fold(name for shape in site.shapes for name in names_of(shape))


def _expanded(text: str) -> tuple[str, ...]:
    """The names in Slurm's order, none where the site writes what we cannot read."""
    try:
        return hostlist.expand_in_order(text)
    except BrokerError:
        return ()
