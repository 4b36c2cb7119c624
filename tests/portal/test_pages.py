"""Every page of the URL map in both colours: axe finds nothing, nothing overflows or complains."""

from pathlib import Path

import pytest

from .addresses import pages

pytestmark = [pytest.mark.mesh, pytest.mark.browser]

AXE = Path(__file__).parents[2] / "services/web/tests/vendor/axe.js"
RUN = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.map((v) => `${v.id}: ${v.help}: ` +
    v.nodes.slice(0, 3).map((n) => n.target.join(" ") + " " +
      (n.any[0]?.message || n.failureSummary)).join(" | "));
}"""
ROUNDS = [("phone", "dark"), ("desk", "light"), ("phone", "light"), ("desk", "dark")]
MAY_BE_NOTHING = ("/unknown", "/1")
"""Addresses of what is not there: their error page is looked at, too."""


@pytest.mark.parametrize(("size", "scheme"), ROUNDS, ids=" ".join)
def test_no_page_has_a_violation(window, app, size, scheme):
    """The deep rounds go through everything; the other two through what the navigation offers."""
    paths = pages(app) if (size, scheme) in ROUNDS[:2] else _offered(window)
    visitor = window(size, scheme=scheme)
    visitor.unlock()
    wrong = {}
    for path in paths:
        answer = visitor.goto(path)
        status = answer.status if answer else 200
        missing = status in (404, 409) and ("unknown" in path or path.endswith("/1"))
        visitor.page.wait_for_function("document.fonts.status === 'loaded'")
        visitor.page.wait_for_timeout(150)  # charts draw once their data are there
        visitor.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = visitor.page.evaluate(RUN)
        width, room = visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if width > room:
            found.append(f"it is {width} px wide on {room} px")
        if status >= 400 and not missing:
            found.append(f"it answers {status}")
        elif not missing:
            found += visitor.complaints
        visitor.complaints.clear()
        if found:
            wrong[path] = found
    assert wrong == {}


def _offered(window):
    first = window("desk")
    first.goto("/more")
    links = first.page.locator("main a").evaluate_all("all => all.map((a) => a.pathname)")
    return ["/", *links]


def test_no_request_has_left_the_host(window, proxy, app):
    """Counted by the proxy that all windows of this run go through."""
    visitor = window("desk")
    for path in _offered(window):
        visitor.goto(path)
    visitor.page.wait_for_timeout(300)
    assert proxy.passed > 40
    assert proxy.foreign == []
