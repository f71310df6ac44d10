"""The tables of system call numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hotbed.seed.sandbox.syscalls import NUMBERS

FIRST_COMMON = 424
HEADERS = {
    "x86_64": ["x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"],
    "aarch64": ["asm-generic/unistd.h"],
}
# By their sorts: a header for 32 and 64 bits names some by both, and some only by the 32-bit name.
ALIASES = {"newfstatat": "fstatat"}


def header_of(machine: str) -> dict[str, int]:
    for name in HEADERS[machine]:
        path = Path("/usr/include", name)
        if path.exists() and (machine != "x86_64" or "__NR_open 2" in path.read_text()):
            found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", path.read_text())
            return {name: int(number) for name, number in found}
    pytest.skip("no header of the kernel's here; install it with: apt-get install linux-libc-dev")


@pytest.mark.parametrize("machine", NUMBERS)
def test_no_two_calls_share_a_number(machine: str) -> None:
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


def test_from_424_on_the_machines_agree() -> None:
    common = [
        {name: number for name, number in table.items() if number >= FIRST_COMMON}
        for table in NUMBERS.values()
    ]
    assert common[0] == common[1]
    assert sorted(common[0].values()) == list(range(FIRST_COMMON, FIRST_COMMON + len(common[0])))


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("read", 0, 63),
        ("rseq", 334, 293),
        ("kexec_file_load", 320, 294),
        ("recvmmsg", 299, 243),
        ("wait4", 61, 260),
        ("clone3", 435, 435),
        ("landlock_restrict_self", 446, 446),
        ("mseal", 462, 462),
        ("open_tree_attr", 467, 467),
        ("listns", 470, 470),
    ],
)
def test_the_ends_of_each_run_of_numbers_are_where_the_kernel_has_them(
    name: str, x86_64: int, aarch64: int
) -> None:
    assert (NUMBERS["x86_64"][name], NUMBERS["aarch64"][name]) == (x86_64, aarch64)


@pytest.mark.parametrize("machine", NUMBERS)
def test_each_number_is_the_one_in_the_kernels_header(machine: str) -> None:
    header = header_of(machine)
    newest = max(number for name, number in header.items() if name != "syscalls")
    header |= {ours: header[theirs] for ours, theirs in ALIASES.items() if theirs in header}
    ours = NUMBERS[machine]
    missing_there = {
        name for name, number in ours.items() if number <= newest and header.get(name) != number
    } - {"uretprobe", "uprobe"}  # younger than their numbers
    assert missing_there == set()
    assert {name: number for name, number in header.items() if ours.get(name, number) != number} == {}
