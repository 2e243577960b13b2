"""Runs on a Xen host, not here: xl's own parser (libxlutil) reads configurations and compares what it understood.

stdin: a JSON list of [text, {key: value or list of values}]. Prints one line for each difference, then the number of
values that were compared.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys

LIBRARY = ctypes.CDLL(ctypes.util.find_library("xlutil"))
LIBRARY.xlu_cfg_init.restype = ctypes.c_void_p
LIBRARY.xlu_cfg_get_listitem.restype = ctypes.c_char_p
STDERR = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
# Larger than any record that libxl fills in.
RECORD = 1 << 13


def list_of(config: ctypes.c_void_p, key: bytes) -> list[str]:
    found, count = ctypes.c_void_p(), ctypes.c_int()
    if LIBRARY.xlu_cfg_get_list(config, key, ctypes.byref(found), ctypes.byref(count), 1):
        return []
    return [LIBRARY.xlu_cfg_get_listitem(found, index).decode() for index in range(count.value)]


def string_of(config: ctypes.c_void_p, key: bytes) -> str | None:
    found = ctypes.c_char_p()
    if LIBRARY.xlu_cfg_get_string(config, key, ctypes.byref(found), 1) or found.value is None:
        return None
    return found.value.decode()


def refused(config: ctypes.c_void_p, key: str, entry: str) -> bool:
    """Whether the parser of a list's entries, where libxlutil has one, does not take it."""
    record = ctypes.create_string_buffer(RECORD)
    if key == "disk":
        return bool(LIBRARY.xlu_disk_parse(config, 1, (ctypes.c_char_p * 1)(entry.encode()), record))
    if key == "pci":
        return bool(LIBRARY.xlu_pci_parse_spec_string(config, record, entry.encode()))
    rates = [word[5:] for word in entry.split(",") if key == "vif" and word.startswith("rate=")]
    return any(LIBRARY.xlu_vif_parse_rate(config, rate.encode(), record) for rate in rates)


def main() -> None:
    compared = 0
    for text, values in json.load(sys.stdin):
        config = ctypes.c_void_p(LIBRARY.xlu_cfg_init(STDERR, b"test"))
        data = text.encode()
        if LIBRARY.xlu_cfg_readdata(config, data, len(data)):
            print("not read:", json.dumps(text))
            continue
        for key, want in values.items():
            compared += 1
            is_list = isinstance(want, list)
            got = list_of(config, key.encode()) if is_list else string_of(config, key.encode())
            if got != (want if is_list else str(want)):
                print("differs:", key, json.dumps(want), json.dumps(got))
            for entry in got if isinstance(got, list) else ():
                if refused(config, key, entry):
                    print("refused:", key, json.dumps(entry))
        LIBRARY.xlu_cfg_destroy(config)
    print(compared)


if __name__ == "__main__":
    main()
