"""Who may do what, over real sockets: the whole URL map as nobody, viewer, operator and admin.

What each endpoint asks is written in ``web.access``; here it is compared with what an owner was
promised: reading is free in the house, whatever changes something takes an account.
"""

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

import pytest
from web.access import ROLES, TABLE

from .addresses import addresses
from .conftest import PASSWORD

pytestmark = [pytest.mark.mesh]

OWN = {
    "account.login", "account.logout", "account.logout_everywhere", "account.password",
    "account.lock", "setup.settle", "look.language",
}  # fmt: skip
"""About nobody but who asks."""
READS = {"rules.read", "money.preview"}
"""POST, since a form is sent; nothing is changed."""
ONLY_ADMIN = re.compile(
    r"(people|person|key|session|support|restore|rules\.(save|undo|numbers|review)|data\.)"
)
STREAMS = {"now.live", "api.events"}


class Client:
    """Somebody with cookies and without a browser."""

    def __init__(self, base):
        self.base = base
        self.jar = http.cookiejar.CookieJar()
        handlers = [urllib.request.HTTPCookieProcessor(self.jar), _Still()]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)

    def ask(self, path, method="GET", fields=None, **headers):
        data = urllib.parse.urlencode(fields or {}).encode() if method != "GET" else None
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Accept", "text/html")
        for name, text in headers.items():
            request.add_header(name.replace("_", "-"), text)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.read().decode(errors="replace")

    def mark(self, path):
        return re.search(r'name="csrf" value="(\w+)"', self.ask(path)[1])[1]

    def log_in(self, name):
        fields = {"name": name, "password": PASSWORD, "csrf": self.mark("/login")}
        status, text = self.ask("/login", "POST", fields)
        assert status == 303, text
        return self


class _Still(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture(scope="module")
def crowd(house, accounts):
    """Nobody, and one of each role, none with controls unlocked."""
    admin = Client(house.url).log_in("anna")
    admin.ask("/unlock", "POST", {"password": PASSWORD, "csrf": admin.mark("/account")})
    for role in ("viewer", "operator"):
        fields = {"name": role, "role": role, "password": PASSWORD}
        fields["csrf"] = admin.mark("/system/people")
        status, text = admin.ask("/system/people", "POST", fields)
        assert status in (200, 303), text
    found = {"nobody": Client(house.url), "admin": Client(house.url).log_in("anna")}
    return found | {role: Client(house.url).log_in(role) for role in ("viewer", "operator")}


def refused(status, text):
    """By the guard, not by a view that finds nothing."""
    return (status in (401, 403)) or (status == 303 and "/login" in text) or status == 303


def test_every_endpoint_has_a_rule_that_suits_it(app):
    for endpoint, method, _ in addresses(app):
        rule = TABLE[endpoint]
        if method == "GET" or endpoint in READS:
            continue
        if endpoint in OWN:
            continue
        role = getattr(rule, "role", None)
        is_key = endpoint.startswith("api.")
        assert role in ("operator", "admin") or is_key, f"{endpoint} changes something for {role}"
        if ONLY_ADMIN.search(endpoint):
            assert role == "admin", endpoint


@pytest.mark.parametrize("who", ["nobody", *ROLES])
def test_the_walk(crowd, app, who):
    """Whoever lacks the role is refused everywhere; reading works everywhere for who has it."""
    client = crowd[who]
    rank = ROLES.index(who) if who in ROLES else -1
    wrong = []
    for endpoint, method, path in addresses(app):
        if endpoint in STREAMS or endpoint.startswith(("static", "api.")):
            continue
        rule = TABLE[endpoint]
        need = (
            -1 if rule.role is None or (rule.guests and who == "nobody") else ROLES.index(rule.role)
        )
        may = rank >= need
        if method != "GET" and may and not rule.unlocked:
            continue  # what may be done is done elsewhere; here it would be done by accident
        if method == "GET":
            status, text = client.ask(path)
            passed = status not in (401, 403) and not (status == 303 and not may)
            if status >= 500 and status != 503:
                wrong.append(f"{endpoint}: {status}")
        else:
            status, text = client.ask(
                path, method, {"csrf": client.mark("/login" if rank < 0 else "/account")}
            )
            passed, may = status not in (401, 403), False
        if passed != may:
            wrong.append(f"{who}: {method} {path} ({endpoint}) answers {status}")
    assert wrong == []


def test_no_form_is_taken_without_its_mark(crowd, app):
    client = crowd["admin"]
    taken = []
    for endpoint, method, path in addresses(app):
        if method == "GET" or endpoint.startswith("api."):
            continue
        for fields in ({}, {"csrf": "0" * 64}):
            status, _ = client.ask(path, method, fields)
            if status not in (401, 403, 405):
                taken.append(f"{endpoint}: {status}")
        status, _ = client.ask(path, method, {}, Sec_Fetch_Site="cross-site")
        if status not in (401, 403, 405):
            taken.append(f"{endpoint} from elsewhere: {status}")
    assert taken == []


def test_a_forged_proxy_gives_nothing(crowd, app):
    """Whoever claims to be in the house by a header is taken for somebody outside."""
    client = Client(crowd["nobody"].base)
    for path in ("/", "/control", "/rules"):
        assert client.ask(path)[0] == 200
        status, _ = client.ask(path, X_Forwarded_For="192.168.1.20")
        assert status in (303, 401, 403), path
