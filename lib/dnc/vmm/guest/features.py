"""CPU_MODEL/FEATURES: processor features by the names that Linux and libvirt use, in those of xl's `cpuid`."""

from __future__ import annotations

from typing import Tuple

from ...errors import BadInput
from ...grammar import shown
from ...opennebula.vm import VmDocument

# Where xl's name is another one; xl of Xen 4.17 and later knows these alike.
_OTHER_NAMES = {
    "sse4.1": "sse4_1", "sse4-1": "sse4_1", "sse41": "sse4_1", "sse4.2": "sse4_2", "sse4-2": "sse4_2",
    "sse42": "sse4_2", "pni": "sse3", "lahf_lm": "lahfsahf", "lahf-lm": "lahfsahf", "cmp_legacy": "cmplegacy",
    "cx16": "cmpxchg16", "cx8": "cmpxchg8", "pclmuldq": "pclmulqdq", "pdpe1gb": "page1gb", "tsc-adjust": "tsc_adjust",
    "sha-ni": "sha", "sha_ni": "sha", "fxsr_opt": "ffxsr", "cr8legacy": "altmovcr8", "aesni": "aes",
}
_NAMES = (
    "fpu vme de pse tsc msr pae mce apic sep mtrr pge mca cmov pat pse36 clfsh acpi mmx fxsr sse sse2 ss htt tm sse3 "
    "pclmulqdq monitor vmx est tm2 ssse3 fma xtpr pcid dca sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand "
    "hypervisor syscall nx mmxext ffxsr page1gb rdtscp lm 3dnowext 3dnow lahfsahf cmplegacy svm abm sse4a "
    "misalignsse 3dnowprefetch osvw ibs xop skinit lwp fma4 tbm topoext xsaveopt xsavec xgetbv1 xsaves fsgsbase "
    "tsc_adjust bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap clflushopt clwb sha avx512f avx512dq avx512cd "
    "avx512bw avx512vl avx512-ifma avx512-vbmi avx512-vbmi2 avx512-vnni avx512-bitalg avx512-vpopcntdq umip pku gfni "
    "vaes vpclmulqdq rdpid invtsc cmpxchg16 cmpxchg8 altmovcr8 arat wbnoinvd ibpb ibrs stibp ssbd fsrm serialize "
    "cldemote movdiri movdir64b tsc-deadline"
)
_KNOWN = frozenset(_NAMES.split())


def features(vm: VmDocument) -> Tuple[str, ...]:
    """The features that must be there, in xl's names: a host that lacks one refuses the guest. Raises BadInput."""
    found = []
    for word in vm.cpu_model.get("FEATURES", "").lower().replace(" ", "").split(","):
        if not word:
            continue
        name = _OTHER_NAMES.get(word, word if word in _KNOWN else word.replace("_", "-"))
        if name not in _KNOWN:
            raise BadInput(f"CPU_MODEL/FEATURES {shown(word)} of VM {vm.id}: xl knows it not", hint="see xl.cfg(5)")
        found.append(name)
    return tuple(dict.fromkeys(found))
