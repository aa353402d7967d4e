"""The machine that a run was measured on, as far as two runs must agree in it to be compared."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from gptloop.report.errors import ReportError
from gptloop.report.records import COUNT, TEXT, TEXT_OR_NULL, Kind, Record, is_text, named

DEVICE = Kind("'cpu' or 'cuda'", lambda value: value in ("cpu", "cuda"))
TEXTS_OR_NULL = Kind(
    "a list of printable texts or null",
    lambda value: value is None or (isinstance(value, list) and all(map(is_text, value))),
)


_MOST_VERSIONS = 100  # they stand in one line


@dataclasses.dataclass(frozen=True)
class Machine:
    """What must be equal for two runs to be from the same machine, wherever their files lie.

    `gpu`, `driver` and `cuda` are None for a run on the CPU. The host's CPU counts on a GPU too, because GPT-2 decodes
    at the speed of kernel launches. gptloop's own version does not count: it is what is measured, not what with.
    """

    device: str
    cpu: str
    gpu: str | None
    driver: str | None
    cuda: str | None
    threads: int
    versions: tuple[tuple[str, str], ...]
    # Those that decide how fast int8 and bfloat16 are: one name may stand for CPUs of several generations. Early runs
    # have None, and are of another machine, then.
    cpu_features: tuple[str, ...] | None = None

    @property
    def slug(self) -> str:
        """A short name for files: device and model for the reader, a hash of what is compared for certainty."""
        facts = [getattr(self, field.name) for field in dataclasses.fields(self)]
        compared = facts if self.cpu_features else facts[:-1]
        digest = hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:8]
        plain = re.sub(r"\((r|tm|c)\)|\bprocessor\b|\bcpu\b|@.*", " ", (self.gpu or self.cpu).lower())
        model = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:24].strip("-")
        return "-".join(part for part in (self.device, model, digest) if part)


def machine_of(facts: Mapping[str, Any]) -> Machine:
    """The machine that the suite's facts describe.

    Raises:
        ReportError: If a fact is missing or is not what the suite records.
    """
    return read_machine(Record("machine", facts))


def read_machine(info: Record) -> Machine:
    """The machine whose facts stand in a record; raises as `machine_of`."""
    device = info.field("device", DEVICE)
    on_gpu = device == "cuda"
    versions = info.record("versions")
    if unnamed := [name for name in versions.values if not is_text(name)]:
        raise ReportError(f"{versions.place} has the name {named(unnamed[0])}, expected {TEXT.words}")
    if len(versions.values) > _MOST_VERSIONS:
        raise ReportError(
            f"{versions.place} names {len(versions.values):,} versions, expected at most {_MOST_VERSIONS}"
        )
    features = info.field_or("cpu_features", TEXTS_OR_NULL, None)
    found = ((name, versions.field(name, TEXT_OR_NULL)) for name in sorted(versions.values) if name != "gptloop")
    return Machine(
        device=device,
        cpu=info.field("cpu", TEXT),
        gpu=info.field("gpu", TEXT) if on_gpu else None,
        driver=info.field("driver", TEXT_OR_NULL) if on_gpu else None,
        cuda=info.field("cuda", TEXT_OR_NULL) if on_gpu else None,
        threads=info.field("threads", COUNT),
        versions=tuple((name, version) for name, version in found if version is not None),
        cpu_features=None if features is None else tuple(features),
    )
