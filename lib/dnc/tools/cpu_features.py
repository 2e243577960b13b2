"""`xl info`: Xen's version, and which of the CPU features that guests use a host has. Pure.

`hw_caps` are the CPU's features as Xen uses them, one word of 32 bits for each of these CPUID leaves: 1.edx, 1.ecx,
0x80000001.edx, 0x80000001.ecx, 0xd.1.eax, 7.ebx, 7.ecx. A guest that was started on one host goes on using what it
found there, so a host that lacks some of it cannot take it over.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Sequence, Tuple

from ..errors import DncError
from .xl_info import info_fields

# The features that Xen shows to guests, by word and bit (CPUID of Intel and AMD, their manuals).
_NAMES: Dict[int, Dict[int, str]] = {
    1: {
        0: "sse3", 1: "pclmulqdq", 9: "ssse3", 12: "fma", 13: "cx16", 17: "pcid", 19: "sse4.1", 20: "sse4.2",
        22: "movbe", 23: "popcnt", 25: "aes", 26: "xsave", 28: "avx", 29: "f16c", 30: "rdrand",
    },
    2: {20: "nx", 22: "mmxext", 25: "ffxsr", 26: "page1gb", 27: "rdtscp", 29: "lm", 30: "3dnowext", 31: "3dnow"},
    3: {
        0: "lahf", 4: "altmovcr8", 5: "abm", 6: "sse4a", 7: "misalignsse", 8: "3dnowprefetch", 11: "xop", 15: "lwp",
        16: "fma4", 21: "tbm",
    },
    4: {0: "xsaveopt", 1: "xsavec", 2: "xgetbv1", 3: "xsaves"},
    5: {
        0: "fsgsbase", 3: "bmi1", 4: "hle", 5: "avx2", 7: "smep", 8: "bmi2", 9: "erms", 10: "invpcid", 11: "rtm",
        14: "mpx", 16: "avx512f", 17: "avx512dq", 18: "rdseed", 19: "adx", 20: "smap", 21: "avx512ifma",
        23: "clflushopt", 24: "clwb", 26: "avx512pf", 27: "avx512er", 28: "avx512cd", 29: "sha", 30: "avx512bw",
        31: "avx512vl",
    },
    6: {
        0: "prefetchwt1", 1: "avx512vbmi", 2: "umip", 3: "pku", 6: "avx512vbmi2", 8: "gfni", 9: "vaes",
        10: "vpclmulqdq", 11: "avx512vnni", 12: "avx512bitalg", 14: "avx512vpopcntdq", 22: "rdpid", 27: "movdiri",
        28: "movdir64b",
    },
}


class Hypervisor(NamedTuple):
    """What `xl info` says. version: (major, minor); memory in MiB; features: names, in the order of the words."""

    version: Tuple[int, int]
    free_mib: int
    features: Tuple[str, ...]


def parse_hypervisor(text: str) -> Hypervisor:
    """`xl info`. Raises DncError."""
    fields = info_fields(text)
    try:
        words = [int(word, 16) for word in fields["hw_caps"].split(":")]
        version = int(fields["xen_major"]), int(fields["xen_minor"])
        return Hypervisor(version, int(fields["free_memory"]), features(words))
    except (KeyError, ValueError) as error:
        raise DncError(f"xl info: not understood: {type(error).__name__} {error}") from None


def lacking(wanted: Sequence[str], features: Sequence[str]) -> Tuple[str, ...]:
    """Which of the wanted features are missing."""
    return tuple(name for name in wanted if name not in features)


def features(words: Sequence[int]) -> Tuple[str, ...]:
    """Names of the features in words of hw_caps; a shorter list, of an older Xen, has none of the rest."""
    return tuple(
        name for index, names in _NAMES.items() if index < len(words)
        for bit, name in names.items() if words[index] >> bit & 1
    )
