"""Who may do what: every endpoint, as nobody and as each role, from inside and from outside."""

import re
from collections.abc import Callable

import pytest
from sunmesh.testing import migrated
from web.app import create_app
from web.people.access import TABLE, Rule
from web.people.accounts import Accounts
from web.people.guard import guard, safe_target

from .visiting import PASSWORD, Browser

INVERTER = '[devices.inverter]\nfamily = "axpert"\n'
WHO = ("nobody", "viewer", "operator", "admin")
OUTSIDE = "8.8.8.8"


@pytest.fixture
def app_of(board, clock, tmp_path) -> Callable[..., object]:
    """A portal with accounts, without a broker."""
    made: list[Accounts] = []

    def make(rest: str = ""):
        url = f"sqlite:///{tmp_path}/house.db"
        migrated(url)
        accounts = Accounts(url, clock)
        made.append(accounts)
        found = board(INVERTER + rest, "house.db")
        return create_app(found.site, found, accounts)

    yield make
    for one in made:
        one.close()


@pytest.fixture
def app(app_of):
    return app_of()


def crowd(app) -> dict[str, Browser]:
    """Nobody, and one of each role, unlocked where that role can be."""
    people = app.extensions["accounts"]
    found = {"nobody": Browser(app)}
    found["admin"] = Browser(app).settle("admin").unlock()
    for role in ("viewer", "operator"):
        people.add(role, PASSWORD, role, "admin", "::1")
        found[role] = Browser(app).log_in(role)
    found["operator"].unlock()
    return found


# -- the walk ------------------------------------------------------------------------------------

FILLED = {"text": "2026-11-21", "number": "1", "device": "inverter", "filename": "portal.css"}
FILLED |= {"code": "overload", "name": "inverter"}


def every_endpoint(app):
    """Each rule of the map once for each method, with its address filled in."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda m: FILLED.get(m[1], "1"), rule.rule)
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield rule.endpoint, method, path


def passes(status: int, text: str) -> bool:
    """Whether the guard let a request through, whatever the view made of it then."""
    if (status, "Log in first." in text) == (401, True):
        return False
    if (status, "This takes the role" in text) == (403, True):
        return False
    assert "Load this page again" not in text, "the walk sends the right mark"
    return True


def test_every_endpoint_asks_for_what_its_rule_says(app) -> None:
    visitors = crowd(app)
    app.extensions["board"].streams.limit = 0
    seen = set()
    for endpoint, method, path in every_endpoint(app):
        rule = TABLE[endpoint]
        seen.add(endpoint)
        if endpoint in ("account.logout", "account.logout_everywhere", "account.lock"):
            continue  # below: they would end the walk
        for who in WHO:
            browser = visitors[who]
            page = "/account" if who != "nobody" else "/login"
            options = {"data": {"csrf": browser.mark(page)}} if method == "POST" else {}
            answer = browser.client.open(
                path, method=method, environ_overrides=browser.environ, **options
            )
            allowed = (
                rule.role is None
                or (who == "nobody" and rule.guests)
                or (who != "nobody" and WHO.index(who) >= WHO.index(rule.role))
            )
            told = answer.data.decode(errors="replace")  # a bundle is no text
            assert passes(answer.status_code, told) == allowed, (endpoint, method, who)
            assert answer.status_code < 500 or answer.status_code == 503, (endpoint, who)
            answer.close()
    assert seen == set(TABLE)
    for path in ("/logout", "/logout-everywhere", "/lock"):
        assert visitors["nobody"].post(path, "/login").status_code == 401
    for who in WHO[1:]:
        assert visitors[who].post("/logout", "/account").status_code == 303
        assert visitors[who].get("/account", headers={}).status_code == 401


def test_an_endpoint_without_a_rule_does_not_start(app) -> None:
    app.add_url_rule("/forgotten", "forgotten", lambda: "x")
    with pytest.raises(RuntimeError, match="forgotten"):
        guard(app, app.extensions["board"].config)
    with pytest.raises(RuntimeError, match="gone"):
        guard(app, app.extensions["board"].config, {**TABLE, "forgotten": Rule(), "gone": Rule()})


def test_nothing_controls_without_unlocking(app) -> None:
    browser = Browser(app).settle()
    for path in ("/control/inverter/review", "/control/inverter/apply", "/system/people/1"):
        answer = browser.post(path, "/account")
        assert answer.status_code == 403
        assert "Controls are locked" in answer.text
    browser.unlock()
    assert browser.post("/control/inverter/apply", "/account").status_code == 404  # it passes
    assert browser.post("/lock", "/account").status_code == 303
    assert browser.post("/control/inverter/apply", "/account").status_code == 403


# -- viewing -------------------------------------------------------------------------------------


def test_looking_is_free_inside_and_asks_outside(app) -> None:
    Browser(app).settle()
    for path in ("/", "/day/2026-11-21", "/control", "/alarms", "/now.json", "/live"):
        with app.test_client().get(path) as answer:
            assert answer.status_code == 200, path
        guest = Browser(app, OUTSIDE)
        if path in ("/now.json", "/live"):
            assert guest.get(path, headers={}).status_code == 401
        else:
            answer = guest.get(path)
            assert answer.status_code == 303
            assert answer.headers["Location"] == f"/login?next={path}"
    assert Browser(app, OUTSIDE).log_in("anna").get("/").status_code == 200


def test_looking_may_ask_everybody(app_of) -> None:
    app = app_of('[web]\nviewing = "login"\n')
    Browser(app).settle()
    assert Browser(app).get("/").status_code == 303
    assert Browser(app).get("/?part=main").status_code == 401
    assert Browser(app).get("/static/portal.css").status_code == 200
    assert Browser(app).log_in("anna").get("/").status_code == 200


def test_a_stream_ends_with_its_session(app, monkeypatch) -> None:
    monkeypatch.setattr("web.streams.LOOK_S", 0.01)
    browser = Browser(app).settle()
    answer = browser.client.get("/live", environ_overrides=browser.environ)
    parts = iter(answer.response)
    assert b"retry" in next(parts)
    assert b"event: full" in next(parts)
    browser.post("/logout-everywhere", "/account")
    assert list(parts) == []
    answer.close()


# -- the first visit -----------------------------------------------------------------------------


def test_the_first_visit_makes_the_admin_and_later_ones_log_in(app) -> None:
    first = Browser(app)
    assert first.get("/login").headers["Location"] == "/setup"
    assert "Make this portal yours" in first.get("/control").text
    answer = first.post("/setup", "/setup", name="anna", password="short")
    assert answer.status_code == 422
    assert "at least 8 characters" in answer.text
    assert 'value="anna"' in answer.text
    assert "short" not in answer.text.replace("headline short", "")
    first.settle()
    assert first.get("/account").status_code == 200
    late = Browser(app)
    mark = late.mark("/login")
    assert late.get("/setup").headers["Location"] == "/login?next=/setup"
    answer = late.client.post("/setup", data={"csrf": mark, "name": "eve", "password": PASSWORD})
    assert answer.status_code == 422
    assert "made already" in answer.text


@pytest.mark.parametrize(
    ("address", "headers", "host", "reason"),
    [
        (OUTSIDE, {}, "portal.example", "local network only"),
        ("192.168.1.2", {"HTTP_X_FORWARDED_FOR": "192.168.1.3"}, "sun.local", "a proxy at"),
        ("192.168.1.2", {}, "evil.example", "by its IP address"),
    ],
)
def test_the_first_account_is_not_made_from_outside(app, address, headers, host, reason) -> None:
    browser = Browser(app, address, HTTP_HOST=host, **headers)
    page = browser.get("/setup")
    assert reason in page.text
    assert 'name="password"' not in page.text
    browser.environ["HTTP_HOST"] = host
    form = Browser(app)
    form.get("/setup")
    mark = form.mark("/setup")
    answer = form.client.post(
        "/setup",
        data={"csrf": mark, "name": "eve", "password": PASSWORD},
        environ_overrides=browser.environ,
    )
    # Under another name the browser has no cookie of ours, so the mark already fails there.
    assert answer.status_code == 403
    assert not app.extensions["accounts"].is_settled()


# -- commands from the local network only --------------------------------------------------------


@pytest.mark.parametrize("header", ["X_FORWARDED_FOR", "X_REAL_IP", "FORWARDED"])
def test_a_forged_header_does_not_make_anybody_local(app, header) -> None:
    browser = Browser(app).settle().unlock()
    cookie = browser.cookie()
    mark = browser.mark("/account")
    for address in (OUTSIDE, "2001:db8::7"):
        answer = browser.client.post(
            "/control/inverter/apply",
            data={"csrf": mark},
            environ_overrides={"REMOTE_ADDR": address, f"HTTP_{header}": "192.168.1.20"},
        )
        assert answer.status_code == 403
        assert "from the local network only" in answer.text
    answer = browser.client.post(
        "/unlock",
        data={"csrf": mark},
        environ_overrides={"REMOTE_ADDR": OUTSIDE, f"HTTP_{header}": "127.0.0.1"},
    )
    assert answer.status_code == 403
    assert browser.cookie() == cookie


def test_behind_a_trusted_proxy_the_visitor_counts(app_of) -> None:
    app = app_of('[web]\ntrusted_proxies = ["127.0.0.1/32"]\n')
    inside = Browser(app, HTTP_X_FORWARDED_FOR="192.168.1.20").settle().unlock()
    assert inside.post("/control/inverter/apply", "/account").status_code == 404
    inside.environ["HTTP_X_FORWARDED_FOR"] = "192.168.1.20, 8.8.8.8"
    answer = inside.post("/control/inverter/apply", "/account")
    assert answer.status_code == 403
    assert "8.8.8.8 is in no network" in answer.text


# -- forms and cookies ---------------------------------------------------------------------------


def test_every_change_wants_the_mark_of_its_session(app) -> None:
    browser, other = Browser(app).settle(), Browser(app)
    app.extensions["accounts"].add("bert", PASSWORD, "operator", "anna", "::1")
    other.log_in("bert")
    posts = [path for _, method, path in every_endpoint(app) if method == "POST"]
    assert len(posts) > 8
    browser.unlock()
    for path in posts:
        for mark in ("", "0" * 32, other.mark("/account"), "ü"):
            answer = browser.client.post(path, data={"csrf": mark})
            assert answer.status_code == 403, path
            assert "Load this page again" in answer.text
    good = browser.mark("/account")
    answer = browser.client.post("/lock", headers={"X-CSRF-Token": good})
    assert answer.status_code == 303
    foreign = {"X-CSRF-Token": good, "Sec-Fetch-Site": "cross-site"}
    assert browser.client.post("/lock", headers=foreign).status_code == 403


def test_forms_for_nobody_are_marked_too(app) -> None:
    Browser(app).settle()
    stranger = Browser(app)
    assert stranger.post("/login", name="anna", password=PASSWORD).status_code == 403
    mark = Browser(app).mark("/login")
    assert stranger.post("/login", name="anna", password=PASSWORD, csrf=mark).status_code == 403
    assert stranger.log_in("anna").get("/account").status_code == 200


def test_every_form_on_every_page_is_marked(app) -> None:
    visitors = crowd(app)
    for path in ("/login", "/control", "/account"):
        for browser in visitors.values():
            for form in re.findall(r"<form.*?</form>", browser.get(path).text, re.S):
                if 'method="post"' in form and "data-settings" not in form:
                    assert 'name="csrf"' in form, (path, form[:200])


def test_cookies_are_kept_from_scripts_and_strangers(app_of) -> None:
    app = app_of('[web]\ntrusted_proxies = ["127.0.0.1/32"]\n')
    plain = {"HTTP_X_FORWARDED_FOR": "192.168.1.20"}
    Browser(app, **plain).settle()
    for secure in (False, True):
        scheme = {"HTTP_X_FORWARDED_PROTO": "https"} if secure else {}
        browser = Browser(app, **plain, **scheme)
        answer = browser.post("/login", "/login", name="anna", password=PASSWORD)
        cookies = answer.headers.getlist("Set-Cookie")
        (session,) = [each for each in cookies if each.startswith("sunmesh_session=")]
        assert "HttpOnly" in session
        assert "SameSite=Lax" in session
        assert "Path=/" in session
        assert ("Secure" in session) == secure


def test_the_cookie_is_another_one_after_each_log_in(app) -> None:
    browser = Browser(app).settle()
    first = browser.cookie()
    mark = browser.mark("/account")
    answer = browser.client.post(
        "/login", data={"csrf": mark, "name": "anna", "password": PASSWORD}
    )
    assert answer.status_code == 303
    assert browser.cookie() not in ("", first)
    stale = app.test_client()
    stale.set_cookie("sunmesh_session", first)
    assert stale.get("/account").status_code == 401
    fixed = app.test_client()  # a cookie that somebody planted becomes nobody's session
    fixed.set_cookie("sunmesh_session", "planted-by-somebody-else")
    page = fixed.get("/login").text
    mark = re.search(r'name="csrf" value="(\w+)"', page)[1]
    fixed.post("/login", data={"csrf": mark, "name": "anna", "password": PASSWORD})
    assert fixed.get_cookie("sunmesh_session").value != "planted-by-somebody-else"


def test_log_out_everywhere_ends_all(app) -> None:
    one, two = Browser(app).settle(), Browser(app).log_in("anna")
    assert one.post("/logout-everywhere", "/account").status_code == 303
    assert one.get("/account", headers={}).status_code == 401
    assert two.get("/account", headers={}).status_code == 401


def test_log_in_is_throttled_and_says_so(app) -> None:
    Browser(app).settle()
    guesser = Browser(app, "192.168.1.66")
    for _ in range(5):
        answer = guesser.post("/login", "/login", name="anna", password="wrong wrong")
        assert answer.status_code == 401
        assert "Wrong name or password." in answer.text
    answer = guesser.post("/login", "/login", name="anna", password=PASSWORD)
    assert answer.status_code == 429
    assert "Too many wrong passwords; try again in" in answer.text
    Browser(app, "192.168.1.7").log_in("anna")


@pytest.mark.parametrize(
    ("target", "leads"),
    [
        ("/day/2026-11-21", "/day/2026-11-21"),
        ("/control?x=1", "/control?x=1"),
        *(("//evil.example", "no"), ("https://evil.example", "no"), ("/\\evil.example", "no")),
        *(("javascript:alert(1)", "no"), ("", "no"), ("/a\nb", "no"), ("control", "no")),
        *(("/a\\b", "no"), ("\\\\evil", "no")),
    ],
)
def test_after_a_log_in_one_stays_here(target: str, leads: str) -> None:
    assert safe_target(target, "no") == leads


# -- people --------------------------------------------------------------------------------------


def test_an_admin_gives_and_takes_accounts(app) -> None:
    anna = Browser(app).settle().unlock()
    page = anna.post("/system/people", "/account", name="Bert", password=PASSWORD, role="operator")
    assert page.status_code == 303
    bert = Browser(app).log_in("bert")
    assert bert.get("/system").status_code == 200
    for path in ("/system/people", "/system/audit", "/system/keys", "/system/logs"):
        assert bert.get(path).status_code == 403
    assert anna.post("/system/people/2", "/account", deed="role", role="viewer").status_code == 303
    assert "looks and does not control" in bert.get("/control").text
    answer = anna.post("/system/people/1", "/account", deed="remove")
    assert answer.status_code == 422
    assert "Anna is the only admin" in answer.text
    assert anna.post("/system/people/2", "/account", deed="explode").status_code == 400
    assert anna.post("/system/people/99", "/account", deed="remove").status_code == 422
    told = anna.get("/system/audit").text
    for text in ("made an account for bert", "gave another role to bert", "first account anna"):
        assert text in told
    answer = bert.post("/account/password", "/account", now=PASSWORD, password="quite another one")
    assert answer.status_code == 303
    assert bert.get("/account").status_code == 200
    Browser(app).log_in("bert", "quite another one")


def test_junk_is_refused_and_changes_nothing(app) -> None:
    browser = Browser(app).settle().unlock()
    mark = browser.mark("/account")
    big = browser.client.post("/login", data={"csrf": mark, "name": "x" * 70_000})
    assert big.status_code == 413
    answer = browser.client.post("/system/people", data=b"\xff\xfe\x00", content_type="text/plain")
    assert answer.status_code == 403
    odd = browser.post("/system/people", "/account", name="<script>", password=PASSWORD, role="x")
    assert odd.status_code == 422
    assert "<script>alert" not in odd.text
    for cookie in ("x" * 4000, "\x01", "a;b", "ü"):
        client = app.test_client()
        client.set_cookie("sunmesh_session", cookie)
        assert client.get("/").status_code == 200
        assert client.get("/account").status_code == 401


# -- without a database --------------------------------------------------------------------------


def test_without_a_database_one_may_look_and_nothing_else(board, clock) -> None:
    made = board()
    app = create_app(made.site, made)
    client = app.test_client()
    assert client.get("/").status_code == 200
    assert "Nobody can log in now: there is no database" in client.get("/control").text
    for path in ("/login", "/setup"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "There is no database" in answer.text
    client.set_cookie("sunmesh_session", "whoever")
    assert client.get("/").status_code == 200
    answer = client.get("/account")
    assert answer.status_code == 503
    assert "Nobody can be known" in answer.text
