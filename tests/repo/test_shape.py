"""Who knows one service knows all: the same files, the same names, the same limits."""

import ast
import re
import stat
import tomllib
from pathlib import Path

import pytest
from sunmesh import config

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
MEMBERS = [*SERVICES, *sorted(path.parent for path in ROOT.glob("libs/*/pyproject.toml"))]
by_name = pytest.mark.parametrize("folder", SERVICES, ids=lambda folder: folder.name)


def test_there_are_services():
    assert {"collector-axpert", "recorder", "simulator", "web"} <= {s.name for s in SERVICES}


@by_name
def test_a_service_has_the_files_of_a_service(folder):
    package = folder / "src" / folder.name.replace("-", "_")
    for path in (
        folder / "README.md",
        folder / "requirements.lock",
        folder / "config.example.toml",
        package / "__init__.py",
        package / "__main__.py",
        package / "py.typed",
    ):
        assert path.is_file(), path
    assert list((folder / "tests").glob("test_*.py"))


@by_name
def test_folder_project_and_script_have_one_name(folder):
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    package = folder.name.replace("-", "_")
    assert project["name"] == folder.name
    assert project["scripts"] == {folder.name: f"{package}.__main__:main"}
    assert project["requires-python"] == ">=3.11"
    assert "Private :: Do Not Upload" in project["classifiers"]


@by_name
def test_services_share_the_library_and_nothing_else(folder):
    others = {s.name.replace("-", "_") for s in SERVICES if s != folder}
    for path in (folder / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in others, f"{path}:{node.lineno} imports {name}"


@by_name
def test_the_example_configuration_is_one(folder):
    secrets = {"SUNMESH_BROKER_PASSWORD": "x", "SUNMESH_DATABASE_PASSWORD": "x"}
    assert (
        config.load(folder / "config.example.toml", folder.name, environ=secrets).devices
        is not None
    )


@by_name
def test_the_broker_and_compose_know_the_service(folder):
    assert f"\nuser {folder.name}\n" in (ROOT / "mosquitto/acl").read_text()
    assert f"SERVICE: {folder.name}" in (ROOT / "compose.yml").read_text()


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_readme_of_a_member_says_what_it_is(folder):
    text = (folder / "README.md").read_text()
    assert text.startswith("# ")
    assert len(text) > 400


def test_scripts_can_be_run():
    for path in [*ROOT.glob("tools/*"), ROOT / ".ci/run", ROOT / "mosquitto/make-passwords"]:
        assert path.stat().st_mode & stat.S_IXUSR, path
        assert re.match(r"#!/(bin/sh|usr/bin/env )", path.read_text()), path
