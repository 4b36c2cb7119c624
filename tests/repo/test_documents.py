"""Documents that mirror something are made from it, and are as new as it."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sunmesh import config
from web import told

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("document", "tool"), [("SUPPORTED.md", "supported"), ("site.example.toml", "site-example")]
)
def test_a_made_document_is_as_new_as_its_sources(document, tool):
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / tool], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / document).read_text(encoding="utf-8") == made, (
        f"make it again: tools/{tool} > {document}"
    )


def settings():
    """Every setting of every service that a house has, by the Struct that reads it."""
    for path in sorted(ROOT.glob("services/*/src/*/config.py")):
        if path.parents[2].name == "simulator":
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Device")):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign):
                        yield pytest.param(field.target.id, id=f"{node.name}.{field.target.id}")


@pytest.mark.parametrize("name", list(settings()))
def test_the_example_shows_every_setting(name):
    assert name in (ROOT / "site.example.toml").read_text(encoding="utf-8")


def test_the_example_is_read(tmp_path):
    text = (ROOT / "site.example.toml").read_text(encoding="utf-8")
    tomllib.loads(text)
    path = tmp_path / "site.toml"
    path.write_text(text)
    site = config.load(path, environ={})
    assert set(site.sections) >= {"recorder", "web"}
    assert {table["family"] for table in site.devices.values()} >= {"axpert", "bms", "meter"}


def test_the_portal_says_everything_in_every_language():
    """Texts that are missing in a catalogue, that nobody says any more, or with wrong places."""
    checked = subprocess.run(
        [sys.executable, ROOT / "tools/texts", "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, f"run tools/texts, then translate:\n{checked.stdout[-4000:]}"


def test_portal_and_notifier_have_words_for_the_same_alarms():
    path = ROOT / "services/notifier/src/notifier/texts/en.toml"
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    codes = {
        code
        for table in tables.values()
        for code, words in table.items()
        if isinstance(words, dict) and "title" in words
    }
    assert codes == set(told.CODES)
