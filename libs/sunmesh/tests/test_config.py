import msgspec
import pytest
from sunmesh.config import load
from sunmesh.errors import ConfigError


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: str
    poll_interval_s: float = 5.0

    def __post_init__(self):
        if self.poll_interval_s <= 0:
            raise ValueError(f"poll_interval_s must be above 0, got {self.poll_interval_s:g}")


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "site.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sit]", r"\[sit\] is not known; did you mean site\?"),
        ('[site]\nnam = "x"', r"site\.nam: is not known; did you mean name\?"),
        ('[site]\nname = "Höhe"', r"site\.name: must be"),
        ('[site]\ntime_zone = "Mars/Base"', r"site\.time_zone: must be a name such as"),
        ("[site]\nlatitude = 123", r"site\.latitude: must be -90 to 90"),
        ('[broker]\nport = "a"', r"broker\.port: expected `int`"),
        ("[broker]\nport = 0", r"broker\.port: must be 1 to 65535"),
        ('[broker]\nprotocol = "4"', r"broker\.protocol: invalid enum value"),
        ('[database]\nurl = "postgres://x"', r"database\.url: must start with"),
        ('[devices.x]\nfamily = "axpret"', r"devices\.x\.family: must be one of axpert"),
        ('[devices.services]\nfamily = "axpert"', r"devices\.services: a name is"),
        ("devices = 1", "devices: write one table"),
        ("x = ", "Invalid value"),
        ('[broker]\npassword_file = "none"', r"broker\.password_file: .*none cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(write, text, says):
    with pytest.raises(ConfigError, match=says) as error:
        load(write(text))
    assert "\n" not in str(error.value)
    assert "site.toml: " in str(error.value)


def test_a_missing_file_says_how_to_name_it(tmp_path):
    with pytest.raises(ConfigError, match="--config"):
        load(tmp_path / "none.toml")


def test_devices_and_sections_are_checked_by_their_service(write):
    site = load(write('[devices.x]\nfamily = "axpert"\nport = "/dev/x"\n'))
    assert site.devices_of("axpert", Thing) == {"x": Thing("/dev/x")}
    assert site.devices_of("bms", Thing) == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("poll_interval = 3", r"devices\.x\.poll_interval: is not known; did you mean poll_int"),
        ("poll_interval_s = -1", r"devices\.x\.poll_interval_s: must be above 0, got -1"),
        ('poll_interval_s = "5"', r"devices\.x\.poll_interval_s: expected `float`"),
    ],
)
def test_a_wrong_device_is_refused_in_one_line(write, line, says):
    site = load(write(f'[devices.x]\nfamily = "axpert"\nport = "/dev/x"\n{line}\n'))
    with pytest.raises(ConfigError, match=says):
        site.devices_of("axpert", Thing)


def test_a_missing_key_is_named(write):
    site = load(write('[devices.x]\nfamily = "axpert"\n'))
    with pytest.raises(ConfigError, match=r"devices\.x\.port: is missing"):
        site.devices_of("axpert", Thing)


def test_secrets_come_from_files_and_the_environment_wins(write, tmp_path):
    (tmp_path / "secret-web").write_text("from file\n")
    path = write(
        '[broker]\npassword_file = "secret-{service}"\n'
        '[database]\nurl = "mysql+pymysql://sun@db/sun"\npassword_file = "secret-{service}"\n'
    )
    site = load(path, "web", {})
    assert site.broker.password == "from file"
    assert site.database.sqlalchemy_url() == "mysql+pymysql://sun:from%20file@db/sun"
    assert load(path, "web", {"SUNMESH_BROKER_PASSWORD": "x"}).broker.password == "x"


def test_no_secret_stands_in_a_repr(write):
    site = load(write('[broker]\npassword = "geheim"\n[database]\npassword = "geheim"\n'))
    assert "geheim" not in f"{site.broker!r} {site.database!r}"
