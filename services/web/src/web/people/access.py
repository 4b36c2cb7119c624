"""Who may do what: roles, where a request comes from, and the rule of each endpoint. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from ..text import N_, _

Role = Literal["viewer", "operator", "admin"]
Network = IPv4Network | IPv6Network

ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what those before it may."""
ROLE_NAMES = {"viewer": N_("viewer"), "operator": N_("operator"), "admin": N_("admin")}
"""What people call them."""

UNLOCK_MS = 600_000
"""How long controls stay unlocked."""

FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
    "HTTP_VIA",
)
"""What proxies add. From one that is not trusted it can only take rights away, never give any."""

MOST_HOPS = 20

HOUSE_NAMES = re.compile(
    r"localhost|[\w-]+|.+\.(?:local|localhost|lan|home|internal|home\.arpa|fritz\.box)", re.I
)
"""Names that nobody outside can let point at this house."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from.

    Attributes:
        address: of who asked, as far as it can be believed.
        local: whether that is the local network.
        secure: whether it came over TLS.
        why: it does not count as local.
    """

    address: str
    local: bool
    secure: bool = False
    why: str = ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address.version == n.version and address in n for n in networks)


def origin(
    environ: Mapping[str, object], local: Sequence[Network], trusted: Sequence[Network]
) -> Origin:
    """Where a request comes from: the real peer; what a header says only behind a trusted proxy.

    Args:
        environ: WSGI's.
        local: networks that count as local.
        trusted: proxies whose X-Forwarded-For is believed.
    """
    text = str(environ.get("REMOTE_ADDR") or "")
    secure = environ.get("wsgi.url_scheme") == "https"
    peer = _address(text)
    if peer is None:
        return Origin(text or "unknown", False, secure, _("its address is not known"))
    headers = [name for name in FORWARDED if environ.get(name)]
    if not _is_in(peer, trusted):
        if headers:
            why = _(
                "a proxy at %(address)s stands between, which [web] trusted_proxies does not name",
                address=peer,
            )
            return Origin(str(peer), False, secure, why)
        return _judged(peer, local, secure)
    scheme = str(environ.get("HTTP_X_FORWARDED_PROTO") or "").rsplit(",", 1)[-1].strip()
    secure = secure or scheme.lower() == "https"
    hops = str(environ.get("HTTP_X_FORWARDED_FOR") or "").split(",")[-MOST_HOPS:]
    for hop in reversed(hops):
        found = _address(hop)
        if found is None:
            why = _("the proxy at %(address)s does not say for whom", address=peer)
            return Origin(str(peer), False, secure, why)
        peer = found
        if not _is_in(found, trusted):
            break
    return _judged(peer, local, secure)


def _judged(peer: IPv4Address | IPv6Address, local: Sequence[Network], secure: bool) -> Origin:
    if _is_in(peer, local):
        return Origin(str(peer), True, secure)
    why = _("%(address)s is in no network of [web] local_networks", address=peer)
    return Origin(str(peer), False, secure, why)


def is_house_name(host: str) -> bool:
    """Whether a Host header can only mean this house: an address, or a name of the local network.

    A page on the internet may let a name of its own point here; its scripts would then speak with
    the portal from inside of the house.
    """
    name = re.sub(r":\d{1,5}$", "", host.strip())
    if _address(name.strip("[]")) is not None:
        return True
    return HOUSE_NAMES.fullmatch(name.rstrip(".")) is not None


# -- rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """What an endpoint asks of who calls it.

    Attributes:
        role: at least this one; None = anybody.
        guests: also somebody without a login, where ``[web] viewing`` is open and from inside.
        local: only from the local network.
        unlocked: only while controls are unlocked.
    """

    role: Role | None = None
    guests: bool = False
    local: bool = False
    unlocked: bool = False


ANYBODY = Rule()
VIEW = Rule("viewer", guests=True)
MEMBER = Rule("viewer")
OPERATE = Rule("operator", local=True, unlocked=True)
UNLOCK = Rule("operator", local=True)
ACKNOWLEDGE = Rule("operator")
"""It moves nothing, so it needs no unlocking, and may come from the road."""
TARIFF = Rule("operator")
"""It moves nothing either: a tariff only counts."""
ADMIN = Rule("admin", local=True, unlocked=True)
CORRECT = Rule("admin", local=True)
"""It moves nothing, and can be taken back."""
SET_UP = Rule("admin", local=True)
READ_ALL = Rule("admin")
"""What was done by whom, and from where: nobody else's business."""

TABLE: Mapping[str, Rule] = {
    "static": ANYBODY,
    "more.page": VIEW,
    "now.page": VIEW,
    "now.snapshot": VIEW,
    "now.live": VIEW,
    "now.worker": ANYBODY,
    "now.manifest": ANYBODY,
    "now.offline": ANYBODY,
    "look.language": ANYBODY,  # a cookie of whoever asks, and nothing else
    "day.today": VIEW,
    "day.today_page": VIEW,
    "day.page": VIEW,
    "day.data": VIEW,
    "day.table": VIEW,
    "history.page": VIEW,
    "history.period": VIEW,
    "history.table": VIEW,
    "history.report": VIEW,
    "history.repair": CORRECT,
    "history.save": CORRECT,
    "history.edits": CORRECT,
    "history.undo": CORRECT,
    "battery.page": VIEW,
    "devices.page": VIEW,
    "devices.device": VIEW,
    "devices.record": OPERATE,
    "devices.stop_recording": UNLOCK,
    "devices.recorded": UNLOCK,
    "wall.page": VIEW,
    "control.page": VIEW,
    "control.order": VIEW,
    "control.review": OPERATE,
    "control.apply": OPERATE,
    "rules.page": VIEW,
    "rules.replay": VIEW,
    "rules.progress": VIEW,
    "rules.new": VIEW,
    "rules.edit": VIEW,
    "rules.read": MEMBER,
    "rules.rehearse": UNLOCK,
    "rules.review": ADMIN,
    "rules.restore": ADMIN,
    "rules.undo": ADMIN,
    "rules.numbers": ADMIN,
    "rules.save": ADMIN,
    "alarms.page": VIEW,
    "alarms.acknowledge": ACKNOWLEDGE,
    "alarms.test": UNLOCK,
    "money.page": VIEW,
    "money.period": VIEW,
    "money.table": VIEW,
    "money.tariffs": VIEW,
    "money.new": TARIFF,
    "money.tariff": TARIFF,
    "money.save": TARIFF,
    "money.preview": TARIFF,
    "money.more": TARIFF,
    "money.remove": TARIFF,
    "data.page": VIEW,
    "data.export": MEMBER,
    "data.upload": CORRECT,
    "data.draft": CORRECT,
    "data.plan": CORRECT,
    "data.apply": CORRECT,
    "data.leave": CORRECT,
    "data.undo": CORRECT,
    "data.job": CORRECT,
    "data.stop": CORRECT,
    "data.check_days": CORRECT,
    "data.save_days": CORRECT,
    "data.undo_days": CORRECT,
    "data.backup": CORRECT,
    "data.verify": CORRECT,
    "data.fetch": CORRECT,
    "api.page": VIEW,
    "api.openapi": VIEW,
    "api.site": VIEW,
    "api.latest": VIEW,
    "api.events": VIEW,
    "api.display": VIEW,
    "api.devices": VIEW,
    "api.device": VIEW,
    "api.settings": VIEW,
    "api.quantities": VIEW,
    "api.series": VIEW,
    "api.points": VIEW,
    "api.energy": VIEW,
    "api.alarms": VIEW,
    "api.acknowledge": ACKNOWLEDGE,
    "api.commands": VIEW,
    "api.command": VIEW,
    "api.ask": OPERATE,
    "account.login_page": ANYBODY,
    "account.login": ANYBODY,
    "account.logout": MEMBER,
    "account.logout_everywhere": MEMBER,
    "account.unlock": UNLOCK,
    "account.lock": MEMBER,
    "account.page": MEMBER,
    "account.password": MEMBER,
    "setup.page": ANYBODY,  # until somebody has an account; its view asks for the local network
    "setup.settle": ANYBODY,
    "setup.house": SET_UP,
    "setup.save_house": SET_UP,
    "setup.devices": SET_UP,
    "setup.find": SET_UP,
    "setup.save_devices": SET_UP,
    "setup.more": SET_UP,
    "setup.save_more": SET_UP,
    "setup.finish": SET_UP,
    "setup.download": SET_UP,
    "setup.save": SET_UP,  # its view asks for the password
    "setup.done": SET_UP,
    "system.page": VIEW,
    "system.logs": READ_ALL,
    "system.deeds": READ_ALL,
    "system.deeds_table": READ_ALL,
    "system.people": READ_ALL,
    "system.add_person": ADMIN,
    "system.change_person": ADMIN,
    "system.end_session": ADMIN,
    "system.keys": READ_ALL,
    "system.make_key": ADMIN,
    "system.remove_key": ADMIN,
    "system.support": READ_ALL,
    "system.support_bundle": READ_ALL,
}
"""The rule of every endpoint; :func:`web.app.create_app` refuses one that has none."""


def may(role: str, wanted: str) -> bool:
    """Whether ``role`` includes ``wanted``; a role that nobody knows includes nothing."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(wanted)
