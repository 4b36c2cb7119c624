import json
import re
from pathlib import Path

import pytest
import web

PACKAGE = Path(web.__file__).parent
FOLDER = PACKAGE.parent.parent
OWN = [
    *sorted(
        file for file in (PACKAGE / "static").glob("*.*") if file.suffix not in (".png", ".webp")
    ),
    *sorted((PACKAGE / "templates").glob("*.html")),
]
NAMESPACES = ("http://www.w3.org/2000/svg",)


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_no_asset_names_another_host(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for namespace in NAMESPACES:
        text = text.replace(namespace, "")
    assert not re.findall(r"(?:https?:|wss?:|[\"'(=\s])//\w[^\s\"')]*", text)
    assert "@import" not in text


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_nothing_needs_an_exception_from_the_policy(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".html":
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script>|javascript:", text)
    assert "eval(" not in text
    assert "data:" not in text


def test_the_lock_holds_hashes_and_no_addresses() -> None:
    text = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = {name: body for name, body in json.loads(text)["packages"].items() if name}
    assert all(body["integrity"].startswith("sha512-") for body in packages.values())
    asked = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    wanted = asked["dependencies"] | asked["devDependencies"]
    assert {name.removeprefix("node_modules/") for name in packages} == set(wanted)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def test_the_assets_are_installed_and_small() -> None:
    vendor = PACKAGE / "static" / "vendor"
    assert {file.name for file in vendor.iterdir()} == {
        "htmx.LICENSE",
        "htmx.js",
        "inter-ext.woff2",
        "inter.LICENSE",
        "inter.woff2",
        "uPlot.LICENSE",
        "uPlot.css",
        "uPlot.js",
    }
    first = ["now.js", "portal.css", "theme.js", "icon.svg", "vendor/inter.woff2"]
    assert sum((PACKAGE / "static" / name).stat().st_size for name in first) < 100_000


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_both_colour_sets() -> None:
    """WCAG AA: 4.5 for text, 3 for what only marks something."""
    css = (PACKAGE / "static" / "portal.css").read_text(encoding="utf-8")
    sets = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in css.split("{")]
    light, *dark = [tokens for tokens in sets if "page" in tokens]
    assert dark[0] == dark[1], "chosen and automatic dark are the same"
    for tokens in (light, dark[0]):

        def ratio(a: str, b: str, tokens: dict[str, str] = tokens) -> float:
            low, high = sorted((luminance(tokens[a]), luminance(tokens[b])))
            return (high + 0.05) / (low + 0.05)

        for text in ("ink", "muted"):
            for ground in ("page", "surface"):
                assert ratio(text, ground) >= 4.5, (text, ground)
        for soft in ("late-soft", "bad-soft", "info-soft"):
            assert ratio("ink", soft) >= 7
        assert ratio("bad", "page") >= 4.5
        for mark in ("battery", "grid", "load", "good", "late", "bad", "unknown"):
            assert ratio(mark, "surface") >= 3, mark
