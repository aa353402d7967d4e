"""The CPU's name, and which of its instructions decide how fast int8 and bfloat16 are; whatever the machine tells.

Knows what py-cpuinfo and /proc/cpuinfo say; measures nothing.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cpuinfo

# By name: the words for it among the flags of Linux and of py-cpuinfo, of x86 and of ARM.
FEATURES: Mapping[str, frozenset[str]] = {
    "AMX": frozenset({"amx_tile", "amx_int8", "amx_bf16"}),
    "AVX512-VNNI": frozenset({"avx512_vnni", "avx512vnni"}),
    "AVX-VNNI": frozenset({"avx_vnni"}),
    "AVX512-BF16": frozenset({"avx512_bf16"}),
    "AVX2": frozenset({"avx2"}),
    "NEON": frozenset({"asimd", "neon"}),
    "DOTPROD": frozenset({"asimddp"}),
    "I8MM": frozenset({"i8mm"}),
    "BF16": frozenset({"bf16"}),
    "SVE": frozenset({"sve"}),
}
PROC = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """The brand, such as "AMD EPYC 7B13"; of a CPU that tells none, what it does tell."""
    brand = _printable(_cpuinfo().get("brand_raw"))
    if any(map(str.isalnum, brand)):  # for an ARM core that lscpu does not know, py-cpuinfo passes on its "-"
        return brand
    facts = [platform.machine(), _printable(platform.processor())]
    # ARM's cores are told apart by who made them and which part they are.
    for field in ("CPU implementer", "CPU part"):
        if found := re.search(rf"^{field}\s*:\s*(\S+)", _proc_text(), re.MULTILINE):
            facts.append(f"{field.removeprefix('CPU ')} {_printable(found[1])}")
    return f"unknown CPU ({', '.join(dict.fromkeys(fact for fact in facts if fact)) or 'nothing is told of it'})"


def cpu_features() -> list[str] | None:
    """Those of `FEATURES` that the CPU has; None where nobody tells its flags."""
    flags = _cpuinfo().get("flags")
    if not flags:
        # On ARM, py-cpuinfo may miss the line, which is named otherwise there.
        lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", _proc_text(), re.MULTILINE)
        flags = lines[0].split() if lines else []
    return [name for name, words in FEATURES.items() if words.intersection(flags)] if flags else None


def has_bf16() -> bool:
    """Whether the CPU computes in bfloat16, as far as anybody tells."""
    return not {"AMX", "AVX512-BF16", "BF16"}.isdisjoint(cpu_features() or ())


def _cpuinfo() -> dict[str, Any]:
    try:
        found: dict[str, Any] = cpuinfo.get_cpu_info()
    except Exception:  # py-cpuinfo raises bare ones for a CPU that it does not know
        return {}
    return found


def _proc_text() -> str:
    try:
        return PROC.read_text(errors="replace")
    except OSError:
        return ""


def _printable(text: object) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) if isinstance(text, str) else ""
