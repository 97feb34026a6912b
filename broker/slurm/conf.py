"""Slurm's side of a site as text: the include file for slurm.conf, gres.conf's lines, the block for /etc/hosts."""

from collections.abc import Mapping

from broker.slurm import directives, hostlist
from broker.slurm.lint import Finding, check
from broker.slurm.site import SlurmSite, gres_type, names_of, node_line, partition_line
from broker.slurm.wants import Fit, Want, wants
from broker.templating import render

__all__ = ["HOSTS_BEGIN", "HOSTS_END", "Finding", "SlurmSite", "check", "fragment", "gres_lines", "hosts_block"]

HOSTS_BEGIN = "# broker: begin"
HOSTS_END = "# broker: end"


def fragment(site: SlurmSite, own: str = "", scripts: Mapping[str, str] | None = None) -> str:
    """The include file `broker.conf`. `own`: the site's slurm.conf without it; where that suffices, its value wins.

    Where the site's value does not suffice, the change stands as a comment: Slurm takes each parameter once.
    `scripts`: path → text of the programs that `own` names.
    """
    conf = directives.read(own)
    return render(
        "slurm/broker.conf",
        site=site,
        parameters=[_written(want, conf, scripts or {}) for want in wants(site)],
        nodes=[node_line(site, shape) for shape in site.shapes],
        partitions=[partition_line(site, name) for name in site.partitions],
    )


def _written(want: Want, conf: directives.SlurmConf, scripts: Mapping[str, str]) -> dict[str, str]:
    own = conf.value(want.parameter)
    if own is None:
        line, note = f"{want.parameter}={want.value}", ""
    elif want.suffices(own, scripts):
        line, note = f"# {want.parameter}={own.text}", "yours suffices"
    elif want.fit is Fit.CHAIN and want.parameter == "PrologSlurmctld":
        line, note = (
            f"# exec {want.value}",
            f"KEEP YOUR LINE {want.parameter}={own.text}, but let that program end with",
        )
    else:
        line, note = f"# {want.mended(own)}", f"CHANGE YOUR LINE {want.parameter}={own.text} to"
    mark = f"{want.need}, site-wide" if want.site_wide else str(want.need)
    return {"mark": mark, "why": want.why, "line": line, "note": note}


def gres_lines(site: SlurmSite) -> str:
    """gres.conf's lines, one for each shape with GPUs; empty when none has any."""
    return "".join(
        # AutoDetect: a site that detects its own GPUs does so by a library that our nodes' slurmd may lack.
        f"NodeName={hostlist.fold(names_of(shape))} AutoDetect=off "
        f"Name=gpu Type={gres_type(shape)} File={_devices(shape.accelerator_count)}\n"
        for shape in site.shapes
        if shape.accelerator
    )


def _devices(count: int) -> str:
    return "/dev/nvidia0" if count == 1 else f"/dev/nvidia[0-{count - 1}]"


def hosts_block(site: SlurmSite) -> str:
    """For /etc/hosts of controller and login hosts: every node's name, so that none is ever looked up elsewhere."""
    lines = [f"{site.addresses[name]} {name}" for shape in site.shapes for name in names_of(shape)]
    return "\n".join([HOSTS_BEGIN, *lines, HOSTS_END]) + "\n"
