"""compose.yml holds its promises for every container, those added later too."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
CONTAINERS = COMPOSE["services"]
LASTING = {name: c for name, c in CONTAINERS.items() if c.get("restart") != "no"}
OURS = {name: c for name, c in CONTAINERS.items() if "build" in c}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_can_do_little_harm(name):
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert "privileged" not in container
    assert "network_mode" not in container or container["network_mode"] == "none"


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_container_comes_back_and_says_whether_it_is_well(name):
    assert LASTING[name]["restart"] == "unless-stopped"
    assert LASTING[name]["healthcheck"]["test"]


def test_no_two_services_are_one_user_and_none_is_root():
    users = {name: container["user"] for name, container in OURS.items()}
    services = {name: container["build"]["args"]["SERVICE"] for name, container in OURS.items()}
    assert len({(users[name], services[name]) for name in OURS}) == len(set(services.values()))
    assert all(int(user.split(":")[0]) >= 10000 for user in users.values())
    assert CONTAINERS["mosquitto"]["user"] == "1883:1883"


def test_only_the_portal_is_published_and_on_this_machine_only():
    ports = [port for container in CONTAINERS.values() for port in container.get("ports", [])]
    assert len(ports) == 1
    assert ports[0].startswith("127.0.0.1:")


def test_every_volume_is_named():
    for name, container in CONTAINERS.items():
        for volume in container.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"], f"{name}: {volume}"


def test_what_must_outlast_a_container_has_a_volume():
    volumes = {name: container.get("volumes", []) for name, container in CONTAINERS.items()}
    assert "broker-data:/mosquitto/data" in volumes["mosquitto"]
    assert "database-data:/var/lib/mysql" in volumes["mariadb"]
    assert "recorder-state:/var/lib/sunmesh" in volumes["recorder"]
    assert "backups:/var/backups/sunmesh" in volumes["recorder"]
    made = (ROOT / "Dockerfile").read_text()
    assert "install -d -m 1777 /var/lib/sunmesh /var/backups/sunmesh\n" in made


def test_init_makes_the_secrets_of_every_service():
    users = {
        container["build"]["args"]["SERVICE"]: container["user"].split(":")[0]
        for container in OURS.values()
    }
    owners = dict(pair.split("=") for pair in CONTAINERS["init"]["environment"]["OWNERS"].split())
    assert users.items() <= owners.items()
    init = (ROOT / "compose/init").read_text()
    with_database = {name for name, c in OURS.items() if "mariadb" in c.get("depends_on", [])}
    assert f"for service in {' '.join(sorted(with_database, key=init.find))}; do" in init
