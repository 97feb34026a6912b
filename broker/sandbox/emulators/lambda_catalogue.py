"""What the emulated Lambda sells, where, and with which images."""

import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REGIONS: Mapping[str, str] = {"us-east-1": "Virginia, USA", "us-west-1": "California, USA"}
_BUILT = "2026-08-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """A type. `regions`: region → how many machines it has; `gpu`: what nvidia-smi prints on one."""

    name: str
    description: str
    gpu_description: str
    price_cents_per_hour: int
    vcpus: int
    memory_gib: int
    storage_gib: int
    gpus: int
    regions: Mapping[str, int]
    gpu: str = ""
    gpu_mib: int = 0
    architecture: str = "x86_64"

    def public(self) -> dict[str, Any]:
        """As the API shows it: the processor's architecture is not among what it tells."""
        return {
            "name": self.name,
            "description": self.description,
            "gpu_description": self.gpu_description,
            "price_cents_per_hour": self.price_cents_per_hour,
            "specs": {
                "vcpus": self.vcpus,
                "memory_gib": self.memory_gib,
                "storage_gib": self.storage_gib,
                "gpus": self.gpus,
            },
        }


def shipped_types() -> list[InstanceType]:
    """The types of `lambda_types.toml`."""
    rows = tomllib.loads(Path(__file__).with_name("lambda_types.toml").read_text())["type"]
    return [InstanceType(**row) for row in rows]


def public_region(name: str) -> dict[str, str]:
    """A region as the API shows it. Regions that no list names are sold all the same, as Lambda has been seen to do."""
    return {"name": name, "description": REGIONS.get(name, name)}


@cache
def images() -> list[dict[str, Any]]:
    """One image a region and architecture, with ids that stay the same from run to run."""
    return [
        {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"image/{region}/{architecture}")),
            "created_time": _BUILT,
            "updated_time": _BUILT,
            "name": "lambda-stack-24-04",
            "description": "Lambda Stack 24.04",
            "family": "lambda-stack-24-04",
            "version": "24.4.1",
            "architecture": architecture,
            "region": public_region(region),
        }
        for region in REGIONS
        for architecture in ("x86_64", "arm64")
    ]
