"""What a machine draws, before anybody has measured it. Pure.

A GPU draws a tenth of its board power idle and at most nine tenths of it at work (an H100 was seen at 70 W and at 630 W of
its 700 W); training keeps it three quarters busy. Its host adds 4 W for each CPU and 0.38 W for each GiB of memory at
work (about 0.2 kW for each GPU of an 8-GPU server), and 40 % of that idle. Cooling is not in it.
"""

import re
from dataclasses import dataclass

from broker.catalog.accelerators import identify, of_model
from broker.catalog.zones import Confidence
from broker.core.offers import Hardware

_IDLE, _FULL, _BUSY = 0.1, 0.9, 0.75
_CPU_W, _MEMORY_W_PER_GIB, _HOST_IDLE = 4.0, 0.38, 0.4
_MIG, _MIG_SLICES = re.compile(r"(?<!\d)([1-7])g\.\d+gb", re.IGNORECASE), 7
# Modules with a CPU of their own: its watts are in the board's.
_WITH_CPU = frozenset({"GH200", "GB200", "GB300"})


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Watts of the whole machine: in training, and idle. Confidence is never high: nobody measured it."""

    load_w: int
    idle_w: int
    confidence: Confidence


def energy_of(hardware: Hardware, instance_type: str) -> Energy | None:
    """None: it has a GPU we do not know. `instance_type` may tell the board's form (`gpu_1x_h100_pcie`)."""
    host = hardware.memory_gib * _MEMORY_W_PER_GIB
    if hardware.accelerator not in _WITH_CPU:
        host += hardware.cpus * _CPU_W
    if hardware.accelerator is None:
        return Energy(load_w=round(host), idle_w=round(host * _HOST_IDLE), confidence=Confidence.LOW)
    gpu = of_model(hardware.accelerator, hardware.accelerator_memory_gib, instance_type)
    if gpu is None:
        return None
    sure = gpu.board_known and not gpu.odd_memory
    each_idle = gpu.power_w * _IDLE
    each = each_idle + _BUSY * (gpu.power_w * _FULL - each_idle)
    return Energy(
        load_w=round(hardware.accelerator_count * each + host),
        idle_w=round(hardware.accelerator_count * each_idle + host * _HOST_IDLE),
        confidence=Confidence.MEDIUM if sure else Confidence.LOW,
    )


@dataclass(frozen=True, kw_only=True)
class Watts:
    """Of one device: at work, and idle."""

    load_w: float
    idle_w: float


def gpu_watts(text: str) -> Watts | None:
    """Of one GPU that `text` names, in training, or of its slice (MIG: `3g.40gb`); None: a model we do not know."""
    gpu = identify(text)
    if gpu is None:
        return None
    mig = _MIG.search(text)
    board = gpu.power_w * (int(mig[1]) / _MIG_SLICES if mig else 1)
    idle = board * _IDLE
    return Watts(load_w=idle + _BUSY * (board * _FULL - idle), idle_w=idle)


def cpu_watts() -> Watts:
    """Of one CPU of a host."""
    return Watts(load_w=_CPU_W, idle_w=_CPU_W * _HOST_IDLE)
