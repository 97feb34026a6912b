"""Is the machine what was bought? Decided from the facts it reports, before it may join."""

from collections.abc import Mapping
from datetime import datetime

from broker.catalog import accelerators
from broker.core.demand import Shape

CLOCK_LIMIT_S = 60
"""munge allows 300 s; a machine that is off by more than this will drift past that, and job times would lie."""

MEMORY_SHARE = 0.9
"""Firmware and kernel keep a part of what was sold; Slurm allows its CLOUD nodes the same share."""

DISK_SHARE = 0.8
"""The image itself takes room on the disk that was sold."""

GPU_MEMORY_SHARE = 0.85
"""Drivers report MiB of what is sold in GB, less ECC; less than this is a slice of a GPU or a smaller one."""


def accept(shape: Shape, facts: Mapping[str, str], now: datetime, arch: str | None = None) -> list[str]:
    """What is wrong with the machine, in words for people; empty: nothing. `arch`: the CPU family of our programs."""
    return [
        *_gpu_problems(shape, facts),
        *_less(facts, "cpus", shape.cpus, "CPUs", 1.0),
        *_less(facts, "memory_mib", shape.memory_gib * 1024, "MiB of memory", MEMORY_SHARE),
        *_less(facts, "disk_free_mib", shape.disk_gib * 1024, "MiB of free disk", DISK_SHARE),
        *_clock_problems(facts, now),
        *_arch_problems(facts, arch),
        *([f"the image lacks {facts['missing']}"] if facts.get("missing") else []),
    ]


def _gpu_problems(shape: Shape, facts: Mapping[str, str]) -> list[str]:
    if shape.accelerator is None:
        return []
    wanted = f"the shape needs {shape.accelerator_count} × {shape.accelerator}"
    gpus = [facts.get(f"gpu_{number}", "") for number in range(_number(facts.get("gpus", "0")) or 0)]
    if not gpus:
        return [f"no GPU ({facts.get('gpu_error', 'nvidia-smi reports none')}); {wanted}"]
    names = [gpu.rpartition(",")[0].strip() for gpu in gpus]
    fit = [name for name in names if accelerators.canonical(name) == shape.accelerator]
    if len(fit) < len(names) or len(names) < shape.accelerator_count:
        seen = ", ".join(f"{names.count(name)} × {name}" for name in sorted(set(names)))
        return [f"nvidia-smi reports {seen}, {wanted}"]
    problems = [f"nvidia-smi: {facts['gpu_error']}"] if facts.get("gpu_error") else []
    least = min(accelerators.known()[shape.accelerator].memory_gb) * 1000**3 / 1024**2 * GPU_MEMORY_SHARE
    for number, gpu in enumerate(gpus):
        memory = _number(gpu.rpartition(",")[2])
        if memory is None or memory < least:
            problems.append(
                f"GPU {number} has {gpu.rpartition(',')[2].strip()} MiB, a {shape.accelerator} has {least:.0f} at least"
            )
    return problems


def _less(facts: Mapping[str, str], fact: str, wanted: int, unit: str, share: float) -> list[str]:
    has = _number(facts.get(fact, ""))
    if has is None:
        return [f"the machine does not say how many {unit} it has"]
    return [f"{has} {unit}, the shape needs {wanted}"] if has < wanted * share else []


def _clock_problems(facts: Mapping[str, str], now: datetime) -> list[str]:
    epoch = _number(facts.get("epoch", ""))
    if epoch is None:
        return ["the machine does not tell its time"]
    off = epoch - now.timestamp()
    if abs(off) <= CLOCK_LIMIT_S:
        return []
    return [f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} ours, {CLOCK_LIMIT_S} s are allowed"]


def _arch_problems(facts: Mapping[str, str], arch: str | None) -> list[str]:
    if arch is None or facts.get("arch") == arch:
        return []
    return [f"its CPU is {facts.get('arch') or 'unknown'}, the node bundle was built for {arch}"]


def _number(text: str) -> int | None:
    try:
        return int(text.strip())
    except ValueError:
        return None
