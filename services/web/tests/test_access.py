from ipaddress import ip_network

import pytest
from web.config import PRIVATE, WebConfig
from web.people.access import ROLES, Origin, is_house_name, may, origin

LOCAL = tuple(ip_network(text) for text in PRIVATE)
PROXY = (ip_network("127.0.0.1/32"), ip_network("10.9.0.0/24"))


def ask(address: str | None, trusted=(), **headers: str) -> Origin:
    environ = {f"HTTP_{key}": text for key, text in headers.items()}
    if address is not None:
        environ["REMOTE_ADDR"] = address
    return origin(environ, LOCAL, trusted)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "192.168.1.20", "10.0.0.7", "172.16.0.1", "172.31.255.254", "169.254.3.3"),
        *("::1", "fe80::1", "fe80::1%eth0", "fd12:3456::9", "::ffff:192.168.1.20"),
    ],
)
def test_the_house_is_local(address: str) -> None:
    assert ask(address).local


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "172.32.0.1", "192.169.0.1", "11.0.0.1", "100.64.0.1", "2001:db8::1"),
        *("::ffff:8.8.8.8", "", "unknown", "localhost", "192.168.1.20, 8.8.8.8", "192.168.1"),
    ],
)
def test_everything_else_is_not(address: str) -> None:
    found = ask(address)
    assert not found.local
    assert found.why


def test_no_address_at_all_is_not_local() -> None:
    assert not ask(None).local


@pytest.mark.parametrize(
    "headers",
    [
        {"X_FORWARDED_FOR": "192.168.1.20"},
        {"X_FORWARDED_FOR": "127.0.0.1"},
        {"X_FORWARDED_FOR": "not even an address"},
        {"X_REAL_IP": "192.168.1.20"},
        {"FORWARDED": "for=192.168.1.20"},
        {"X_FORWARDED_PROTO": "https"},
        {"VIA": "1.1 somebody"},
    ],
)
def test_a_header_gives_no_rights_and_takes_them(headers: dict[str, str]) -> None:
    outside = ask("8.8.8.8", **headers)
    assert not outside.local
    assert outside.address == "8.8.8.8"
    behind = ask("192.168.1.2", **headers)  # a proxy in the house that nobody configured
    assert not behind.local
    assert "trusted_proxies does not name" in behind.why
    assert not behind.secure


@pytest.mark.parametrize(
    ("chain", "address", "local"),
    [
        ("192.168.1.20", "192.168.1.20", True),
        ("8.8.8.8", "8.8.8.8", False),
        ("192.168.1.20, 8.8.8.8", "8.8.8.8", False),  # the left part is the visitor's own lie
        ("8.8.8.8, 192.168.1.20", "192.168.1.20", True),
        ("8.8.8.8, 10.9.0.3", "8.8.8.8", False),  # two proxies of ours
        ("192.168.1.20, junk", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("10.9.0.3", "10.9.0.3", True),
        (", ".join(["192.168.1.20"] * 500), "192.168.1.20", True),
    ],
)
def test_a_trusted_proxy_says_for_whom(chain: str, address: str, local: bool) -> None:
    found = ask("127.0.0.1", PROXY, X_FORWARDED_FOR=chain)
    assert (found.address, found.local) == (address, local)


def test_tls_is_believed_of_a_trusted_proxy_only() -> None:
    headers = {"X_FORWARDED_FOR": "192.168.1.20", "X_FORWARDED_PROTO": "https"}
    assert ask("127.0.0.1", PROXY, **headers).secure
    assert not ask("127.0.0.1", **headers).secure
    own = origin({"REMOTE_ADDR": "::1", "wsgi.url_scheme": "https"}, LOCAL, ())
    assert own.secure


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *(("127.0.0.1:8080", True), ("[::1]:8080", True), ("192.168.1.5", True)),
        *(("localhost:8080", True), ("raspberrypi", True), ("sun.local", True)),
        *(("sun.fritz.box:80", True), ("sun.home.arpa", True), ("sun.local.", True)),
        *(("evil.example", False), ("evil.example:8080", False), ("local.evil.com", False)),
        *(("", False), ("127.0.0.1.nip.io", False), ("evil.com.", False), ("a b", False)),
    ],
)
def test_names_of_the_house(host: str, is_ours: bool) -> None:
    assert is_house_name(host) == is_ours


def test_roles_include_each_other() -> None:
    assert [[may(mine, asked) for asked in ROLES] for mine in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert not may("root", "viewer")


def test_networks_are_checked() -> None:
    config = WebConfig(trusted_proxies=("127.0.0.1",))
    assert [str(each) for each in config.trusted] == ["127.0.0.1/32"]
    with pytest.raises(ValueError, match="local_networks must be networks such as"):
        WebConfig(local_networks=("192.168.0.1/16",))
    with pytest.raises(ValueError, match="trusted_proxies must be networks.*got 'proxy'"):
        WebConfig(trusted_proxies=("proxy",))
