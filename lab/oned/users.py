"""Users, groups and rights, as far as hooks need them: who asks, and whether oned lets them (oned's ACL rules)."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict

from .attributes import attributes_xml, cdata, element, identifiers

# AclRule.h: who and what as bits of one number each.
_INDIVIDUAL, _GROUP, _ALL = 1 << 32, 1 << 33, 1 << 34
_VM, _HOST = 1 << 36, 1 << 37
RIGHTS = {"USE": 1, "MANAGE": 2, "ADMIN": 4, "CREATE": 8}
# oned.conf's defaults, as far as a method here asks for them.
_OPERATIONS = {"migrate": "ADMIN", "update": "MANAGE"}
_DEFAULT_VDC = 0


@dataclass
class User:
    """A user; template holds single attributes only."""

    id: int
    name: str
    password: str
    groups: list[int]
    template: Dict[str, str] = field(default_factory=dict)

    def xml(self) -> str:
        """The USER element."""
        return (
            f"<USER>{element('ID', self.id)}{element('GID', self.groups[0])}{identifiers('GROUPS', self.groups)}"
            f"<GNAME>group</GNAME>{element('NAME', self.name)}<PASSWORD>{cdata('hash')}</PASSWORD>"
            "<AUTH_DRIVER><![CDATA[core]]></AUTH_DRIVER><ENABLED>1</ENABLED>"
            f"<TEMPLATE>{attributes_xml(dict(self.template))}</TEMPLATE></USER>"
        )


class Users:
    """All users; the first one, of the session given, is oneadmin, who may do everything."""

    def __init__(self, session: str) -> None:
        name, _, password = session.partition(":")
        self.users = {0: User(0, name, password, [0])}
        self.groups = {0: "oneadmin", 1: "users"}
        self.vdc_groups = [1]
        self.rules: list[tuple[int, int, int]] = [(_GROUP | 1, _VM | _ALL, RIGHTS["CREATE"])]
        self._lock = threading.Lock()
        self.methods: Dict[str, Callable[..., Any]] = {
            "one.user.info": self._user_info, "one.userpool.info": self._pool("USER_POOL", self._users_xml),
            "one.user.allocate": self._allocate_user, "one.user.passwd": self._passwd, "one.user.update": self._update,
            "one.group.allocate": self._allocate_group,
            "one.grouppool.info": self._pool("GROUP_POOL", self._groups_xml),
            "one.vdc.delgroup": self._leave_vdc, "one.acl.info": self._pool("ACL_POOL", self._rules_xml),
            "one.acl.addrule": self._add_rule,
        }

    def of_session(self, session: object) -> int | None:
        """Whose user:password it is."""
        return next((one.id for one in self.users.values() if session == f"{one.name}:{one.password}"), None)

    def refusal(self, user: int, method: str, arguments: tuple[Any, ...]) -> str:
        """Why oned does not let a user do it; empty when it does."""
        if user == 0 or method in ("one.system.version", "one.hostpool.info"):
            return ""
        if method == "one.user.info" and arguments[0] in (-1, user):
            return ""
        needs: list[tuple[int, str]] | None = {
            "one.vm.info": [(_VM, "USE")], "one.host.info": [(_HOST, "USE")],
            "one.vm.update": [(_VM, self._right(user, "update"))],
            "one.vm.migrate": [(_VM, self._right(user, "migrate")), (_HOST, "MANAGE")],
        }.get(method)
        for kind, right in needs or [(0, "ADMIN")]:
            if not self.may(user, kind, right):
                return f"[{method}] User [{user}] : Not authorized to perform {right}."
        return ""

    def sees_hosts(self, user: int) -> bool:
        """Whether one.hostpool.info has anything for a user."""
        return user == 0 or self.may(user, _HOST, "USE")

    def may(self, user: int, kind: int, right: str) -> bool:
        """Whether a rule for the user, its groups or everybody gives that right on all objects of a kind."""
        who = {_INDIVIDUAL | user, _ALL, *(_GROUP | group for group in self.users[user].groups)}
        return any(rule[0] in who and rule[1] & kind and rule[2] & RIGHTS[right] for rule in self.rules)

    def _right(self, user: int, operation: str) -> str:
        """The right that an operation takes: the user's own template goes before oned.conf."""
        for right in ("ADMIN", "MANAGE", "USE"):
            words = self.users[user].template.get(f"VM_{right}_OPERATIONS", "")
            if operation in [word.strip() for word in words.split(",")]:
                return right
        return _OPERATIONS[operation]

    # --- methods; the first argument is who asks -----------------------------------------------------------------

    @staticmethod
    def _pool(name: str, inner: Callable[[], str]) -> Callable[..., str]:
        return lambda *_: f"<{name}>{inner()}</{name}>"

    def _users_xml(self) -> str:
        return "".join(one.xml() for one in self.users.values())

    def _groups_xml(self) -> str:
        return "".join(f"<GROUP>{element('ID', number)}{element('NAME', name)}<TEMPLATE></TEMPLATE></GROUP>"
                       for number, name in self.groups.items())

    def _rules_xml(self) -> str:
        return "".join(
            f"<ACL>{element('ID', number)}<USER>{who:x}</USER><RESOURCE>{what:x}</RESOURCE><RIGHTS>{rights:x}</RIGHTS>"
            f"<ZONE>100000000</ZONE><STRING>rule {number}</STRING></ACL>"
            for number, (who, what, rights) in enumerate(self.rules)
        )

    def _user_info(self, asking: int, number: int, *_: object) -> str:
        return self.users[asking if number == -1 else number].xml()

    def _allocate_user(self, _asking: int, name: str, password: str, _driver: str, groups: list[int]) -> int:
        with self._lock:
            number = max(self.users) + 1
            self.users[number] = User(number, name, password, list(groups) or [1])
        return number

    def _passwd(self, _asking: int, number: int, password: str) -> int:
        self.users[number].password = password
        return number

    def _update(self, _asking: int, number: int, template: str, _append: int) -> int:
        self.users[number].template.update(re.findall(r'(\w+)="([^"]*)"', template))
        return number

    def _allocate_group(self, _asking: int, name: str) -> int:
        with self._lock:
            number = max(100, max(self.groups) + 1)
            self.groups[number] = name
            self.vdc_groups.append(number)
        return number

    def _leave_vdc(self, _asking: int, vdc: int, group: int) -> int:
        if vdc != _DEFAULT_VDC:
            raise KeyError(vdc)
        self.vdc_groups.remove(group)
        return vdc

    def _add_rule(self, _asking: int, who: str, what: str, rights: str, *_: object) -> int:
        self.rules.append((int(who, 16), int(what, 16), int(rights, 16)))
        return len(self.rules) - 1
