"""Which machine this is: processor, instruction set, cores, memory, system, versions and GPUs."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("waferline", "numpy", "numba", "llvmlite", "torch", "triton")
_QUERY_TIMEOUT_S = 10.0  # a healthy nvidia-smi answers in under a second


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The facts by which a measurement can be placed. `digest` names the hardware, whatever the software."""

    cpu: str
    isa: str
    cores: int  # that this process may use
    memory_bytes: int
    system: str
    hypervisor: bool
    gpus: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        facts = (self.cpu, self.isa, str(self.cores), str(round(self.memory_bytes / 2**30)), *self.gpus)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "cpu": self.cpu,
            "isa": self.isa,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "system": self.system,
            "hypervisor": self.hypervisor,
            "gpus": list(self.gpus),
            "versions": dict(self.versions),
        }


@cache
def fingerprint() -> Fingerprint:
    """The fingerprint of this machine, taken once per process."""
    from waferline.kernels.cpu.isa import current_isa
    from waferline.kernels.cpu.threads import available_threads

    info = _cpuinfo()
    return Fingerprint(
        cpu=_cpu_name(info),
        isa=current_isa().name,
        cores=available_threads(),
        memory_bytes=memory_bytes(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        hypervisor=" hypervisor " in f" {info.get('flags', '')} ",
        gpus=gpu_names(),
        versions=(("python", platform.python_version()), *_versions()),
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu_name(info: dict[str, str]) -> str:
    name = info.get("model name") or platform.processor() or platform.machine()
    if platform.system() == "Darwin":
        name = _answer(["sysctl", "-n", "machdep.cpu.brand_string"]) or name
    stepping = "/".join(info[k] for k in ("cpu family", "model", "stepping") if k in info)
    name = re.sub(r"\s+", " ", name).strip()
    return f"{name} (family/model/stepping {stepping})" if stepping else name


def memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def free_memory_bytes() -> int:
    """Memory that can be allocated now without swapping."""
    return int(psutil.virtual_memory().available)


@cache
def gpu_names() -> tuple[str, ...]:
    """Names of NVIDIA GPUs with driver and memory, as `nvidia-smi` gives them; empty without one."""
    text = _answer(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _answer(command: list[str]) -> str:
    """Standard output of a system query; empty when the program is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)
