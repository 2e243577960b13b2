"""Reads /etc/drbd.d as drbdadm does, with 8.4 or 9 loaded: one bad file stops every command (exit status 10)."""

from __future__ import annotations

import os

from sim.world import Refused

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

CONF_ERROR = 10
RESOURCE_WORDS = {
    "8.4": "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of",
    "9": "protocol | on | disk | net | options | startup | handlers | connection | connection-mesh | volume",
}
HOST_WORDS = {
    "8.4": "disk | device | address | meta-disk | flexible-meta-disk",
    "9": "disk | device | address | node-id | volume",
}
OPTIONS = {"8.4": {"cpu-mask", "on-no-data-accessible"}, "9": {
    "cpu-mask", "on-no-data-accessible", "auto-promote", "quorum", "on-no-quorum", "on-suspended-primary-outdated",
    "quorum-minimum-redundancy", "peer-ack-window", "peer-ack-delay", "auto-promote-timeout", "max-io-depth",
    "twopc-timeout",
}}  # fmt: skip
NET = {
    "protocol", "timeout", "max-epoch-size", "connect-int", "ping-int", "sndbuf-size", "rcvbuf-size", "ko-count",
    "allow-two-primaries",
    "cram-hmac-alg", "shared-secret", "after-sb-0pri", "after-sb-1pri", "after-sb-2pri", "always-asbp", "rr-conflict",
    "ping-timeout",
    "data-integrity-alg", "tcp-cork", "on-congestion", "congestion-fill", "congestion-extents", "csums-alg",
    "csums-after-crash-only",
    "verify-alg", "use-rle", "socket-check-timeout", "max-buffers",
}  # fmt: skip
DISK = {
    "on-io-error", "fencing", "disk-barrier", "disk-flushes", "disk-drain", "md-flushes", "resync-rate",
    "resync-after", "al-extents",
    "al-updates", "discard-zeroes-if-aligned", "disable-write-same", "c-plan-ahead", "c-delay-target", "c-fill-target",
    "c-max-rate",
    "c-min-rate", "disk-timeout", "read-balancing", "rs-discard-granularity", "size", "max-bio-bvecs",
}  # fmt: skip


class Tokens:
    """Words of one file with their line numbers."""

    def __init__(self, path: str, text: str) -> None:
        self.name = path.split("/etc/", 1)[-1]
        self.items: list[tuple[str, int]] = []
        for number, raw in enumerate(text.split("\n"), 1):
            self._line(raw, number)
        self.last = text.count("\n") + 1

    def _line(self, raw: str, number: int) -> None:
        position = 0
        while position < len(raw):
            letter = raw[position]
            if letter == "#":
                return
            if letter.isspace():
                position += 1
            elif letter in "{};":
                self.items.append((letter, number))
                position += 1
            elif letter == '"':
                end = raw.find('"', position + 1)
                end = len(raw) if end < 0 else end
                self.items.append((raw[position + 1 : end], number))
                position = end + 1
            else:
                end = position
                while end < len(raw) and not raw[end].isspace() and raw[end] not in '{};#"':
                    end += 1
                self.items.append((raw[position:end], number))
                position = end

    def next(self) -> tuple[str, int]:
        return self.items.pop(0) if self.items else ("", self.last)

    def peek(self) -> str:
        return self.items[0][0] if self.items else ""

    def expect(self, word: str) -> int:
        found, number = self.next()
        if found != word:
            self.fail(f"'{word}'", found, number)
        return number

    def fail(self, wanted: str, found: str, number: int) -> None:
        raise Refused(CONF_ERROR, f"{self.name}:{number}: Parse error: {wanted} expected,\n\tbut got '{found}'")

    def values(self) -> list[str]:
        """Words up to the semicolon."""
        words = []
        while True:
            found, number = self.next()
            if found == ";":
                return words
            if found in ("", "{", "}"):
                self.fail("';'", found, number)
            words.append(found)


class Config:
    """All resources that the files of a host define; `resources` holds those of this host."""

    def __init__(self, directory: str, host: str, version: str) -> None:
        self.host, self.version = host, version
        self.common: dict[str, dict[str, str]] = {"net": {}, "disk": {}, "options": {}}
        self.everything: dict[str, dict[str, Any]] = {}
        self._used: dict[str, str] = {}
        files = [f"{directory}/global_common.conf",
            *sorted(f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(".res"))]
        for path in files:
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    self._file(Tokens(path, file.read()))
        self.resources = {
            name: found for name, found in self.everything.items() if host in found["hosts"] and len(found["hosts"]) > 1
        }

    def _file(self, tokens: Tokens) -> None:
        while tokens.items:
            word, number = tokens.next()
            if word == "global":
                self._free(tokens)
            elif word == "common":
                tokens.expect("{")
                while tokens.peek() != "}":
                    self._section(tokens, self.common)
                tokens.expect("}")
            elif word == "resource":
                self._resource(tokens)
            elif word == "include":
                tokens.values()
            else:
                tokens.fail("'global | common | resource | skip | include'", word, number)

    def _free(self, tokens: Tokens) -> None:
        tokens.expect("{")
        while tokens.peek() not in ("}", ""):
            tokens.values()
        tokens.expect("}")

    def _section(self, tokens: Tokens, into: dict[str, Any]) -> None:
        """net, disk, options, startup, handlers with their options."""
        word, number = tokens.next()
        known = {"net": NET, "disk": DISK, "options": OPTIONS[self.version]}
        if word in ("startup", "handlers", "syncer"):
            self._free(tokens)
            return
        if word not in known:
            tokens.fail(f"'{RESOURCE_WORDS[self.version]}'", word, number)
        tokens.expect("{")
        while tokens.peek() != "}":
            option, number = tokens.next()
            if option not in known[word]:
                tokens.fail("'an option keyword'", option, number)
            into[word][option] = " ".join(tokens.values()) or "yes"
        tokens.expect("}")

    def _resource(self, tokens: Tokens) -> None:
        name, number = tokens.next()
        place = f"{tokens.name}:{number}"
        tokens.expect("{")
        found: dict[str, Any] = {
            "name": name,
            "place": place,
            "hosts": {},
            "net": {},
            "disk": {},
            "options": {},
            "volume": {},
        }
        while tokens.peek() != "}":
            word = tokens.peek()
            if word == "on":
                tokens.next()
                host, _ = tokens.next()
                found["hosts"][host] = self._host(tokens)
            elif word in ("device", "meta-disk", "protocol") or (word == "disk" and tokens.items[1][0] != "{"):
                tokens.next()
                found["volume"][word] = tokens.values()
            elif word == "volume":
                found["volume"].update(self._volume(tokens))
                found["explicit"] = True
            elif word == "connection-mesh" and self.version == "9":
                tokens.next()
                self._free(tokens)
            elif word == "":
                tokens.fail("'}'", "", tokens.last)
            else:
                self._section(tokens, found)
        tokens.expect("}")
        if name in self.everything:
            raise Refused(CONF_ERROR, f"{place}: conflicting use of resource name '{name}' ...\n"
                          f"{self.everything[name]['place']}: resource name '{name}' first used here.")  # fmt: skip
        self._finish(found, tokens)
        self.everything[name] = found

    def _volume(self, tokens: Tokens) -> dict[str, Any]:
        tokens.expect("volume")
        tokens.next()
        tokens.expect("{")
        found: dict[str, Any] = {}
        while tokens.peek() not in ("}", ""):
            word, number = tokens.next()
            if word not in ("device", "disk", "meta-disk"):
                tokens.fail("'device | disk | meta-disk'", word, number)
            if word == "disk" and tokens.peek() == "{":
                self._free(tokens)
                continue
            found[word] = tokens.values()
            found["line"] = number
        tokens.expect("}")
        return found

    def _host(self, tokens: Tokens) -> dict[str, Any]:
        tokens.expect("{")
        found: dict[str, Any] = {}
        while tokens.peek() not in ("}", ""):
            word = tokens.peek()
            if word == "volume":
                found.update(self._volume(tokens), explicit=True)
                continue
            _, number = tokens.next()
            known = (
                "disk",
                "device",
                "address",
                "meta-disk",
                "flexible-meta-disk",
                *(("node-id",) if self.version == "9" else ()),
            )
            if word not in known:
                tokens.fail(f"'{HOST_WORDS[self.version]}'", word, number)
            found[word] = tokens.values()
            found["line"] = number
        tokens.expect("}")
        return found

    def _finish(self, found: dict[str, Any], tokens: Tokens) -> None:
        """Fill in what is common, and check that minors and addresses are used once."""
        if self.version == "8.4" and len(found["hosts"]) > 2:
            raise Refused(
                CONF_ERROR, f"{found['place']}: in resource {found['name']}: there are more than two host sections"
            )
        explicit = {host: bool(own.get("explicit")) for host, own in found["hosts"].items()}
        if found.get("explicit") and len(set(explicit.values())) > 1:
            wrong = next(host for host, told in explicit.items() if not told)
            first = next(host for host, told in explicit.items() if told)
            raise Refused(CONF_ERROR, f"{tokens.name}:{found['hosts'][wrong]['line']}: in resource {found['name']}, on "
                          f"{first} resp. {wrong}: volume 0 must not be implicit on one but not the other ")
        for host, own in found["hosts"].items():
            for key, value in found["volume"].items():
                own.setdefault(key, value)
            line = own.get("line", 0)
            if not {"device", "disk", "address"} <= set(own):
                raise Refused(
                    CONF_ERROR,
                    f"{tokens.name}:{line}: in resource {found['name']}, on {host}: missing device, disk or address",
                )
            own["minor"] = _minor(own["device"])
            own["backing"] = own["disk"][0]
            own["node_id"] = int(own["node-id"][0]) if "node-id" in own else -1
            own["endpoint"] = own["address"][-1]
            self._once(f"device-minor 'device-minor:{host}:{own['minor']}'", tokens.name, line)
            self._once(f"IP '{own['endpoint']}'", tokens.name, line)

    def _once(self, what: str, name: str, line: int) -> None:
        here = f"{name}:{line}"
        first = self._used.setdefault(what, here)
        if first != here or False:
            raise Refused(CONF_ERROR, f"{here}: conflicting use of {what} ...\n{first}: {what} first used here.")


def _minor(words: list[str]) -> int:
    if "minor" in words:
        return int(words[words.index("minor") + 1])
    return int(words[0].rpartition("drbd")[2])
