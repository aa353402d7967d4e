"""What a CPU is called and can do: known, unknown, and one of which nobody tells anything."""

import json

import pytest
from report_runs import machine as saved_facts

from benchmarks import machine
from benchmarks.machine import cpu
from gptloop.report.machine import machine_of

GRAVITON = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes crc32 asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Lets the machine tell this: py-cpuinfo's answer, /proc/cpuinfo, and platform's two words."""

    def tell(info, proc=None, machine_="aarch64", processor=""):
        def get_cpu_info():
            if isinstance(info, Exception):
                raise info
            return info

        monkeypatch.setattr(cpu.cpuinfo, "get_cpu_info", get_cpu_info)
        monkeypatch.setattr(cpu.platform, "machine", lambda: machine_)
        monkeypatch.setattr(cpu.platform, "processor", lambda: processor)
        monkeypatch.setattr(cpu, "PROC", tmp_path / "cpuinfo")
        if proc is not None:
            (tmp_path / "cpuinfo").write_text(proc)

    return tell


@pytest.mark.parametrize(
    ("what", "name", "features"),
    [
        (({"brand_raw": "AMD EPYC", "flags": ["avx2", "avx512_vnni"]},), "AMD EPYC", ["AVX512-VNNI", "AVX2"]),
        (({"brand_raw": "Xeon\x07 8", "flags": ["amx_int8", "amx_tile", "sse"]},), "Xeon 8", ["AMX"]),
        (({"brand_raw": "Old", "flags": ["sse"]},), "Old", []),
        (
            ({"arch": "ARM_8"}, GRAVITON),
            "unknown CPU (aarch64, implementer 0x41, part 0xd40)",
            ["NEON", "DOTPROD", "I8MM", "BF16", "SVE"],
        ),
        (
            ({"brand_raw": "-", "flags": ["asimd", "asimddp"]}, GRAVITON),
            "unknown CPU (aarch64, implementer 0x41, part 0xd40)",
            ["NEON", "DOTPROD"],
        ),
        (({"brand_raw": "  "}, None, "riscv64", "Risky"), "unknown CPU (riscv64, Risky)", None),
        ((Exception("py-cpuinfo does not know this CPU"), None, "aarch64", "aarch64"), "unknown CPU (aarch64)", None),
        (({}, None, "", ""), "unknown CPU (nothing is told of it)", None),
    ],
)
def test_a_cpu_is_named_by_what_it_tells(told, what, name, features):
    told(*what)
    assert cpu.cpu_name() == name
    assert cpu.cpu_features() == features
    facts = json.loads(json.dumps(machine.facts()))
    assert machine_of(facts).cpu == name
    assert machine_of(facts).cpu_features == (None if features is None else tuple(features))


def test_cpus_of_one_name_and_other_features_are_other_machines():
    """Early runs name no features, and keep the names of their files."""
    early, plain, vnni = (
        machine_of({**saved_facts(), "cpu_features": features})
        for features in (None, ["AVX2"], ["AVX512-VNNI", "AVX2"])
    )
    assert early == machine_of(saved_facts())
    assert early.slug == machine_of(saved_facts()).slug
    assert len({early, plain, vnni}) == len({one.slug for one in (early, plain, vnni)}) == 3
