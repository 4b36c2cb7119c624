"""Every wrong setting is one line that names its key."""

import pytest
from notifier.build import channels_of
from notifier.config import notifier_of
from sunmesh.config import load
from sunmesh.errors import ConfigError

TARGET = '[notifier.targets.anna]\nby = "pushover"\ntoken_file = "token"\nuser = "u"\n'


def site(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load(path, "notifier", environ={})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[notifier]\nburst = 0", "notifier.burst: must be 1 or more"),
        ("[notifier]\nburts = 1", "notifier.burts: is not known; did you mean burst?"),
        ('[notifier]\nsign_of_life = "monday"', "notifier.sign_of_life"),
        ('[notifier]\nportal = "house"', "notifier.portal"),
        ('[notifier]\ncallback_listen = "8080"\ncallback_path_file = "x"', "callback_listen"),
        ('[notifier]\ncallback_listen = "x:8080"', "notifier.callback_path_file"),
        ('[notifier]\nsign_of_life_to = ["bob"]', "no target is called 'bob'"),
        (TARGET + '[[notifier.routes]]\nto = ["bob"]', "no target is called 'bob'"),
        (TARGET + '[[notifier.routes]]\nhours = "9-5"', "hours"),
        (TARGET + '[[notifier.routes]]\nseverity = "grave"', "severity"),
        (TARGET + "[[notifier.routes]]\nremind_every_s = 5", "remind_every_s"),
        (TARGET + 'quiet = "22:00"', "notifier.targets.anna.quiet"),
        (TARGET + "emergency_retry_s = 5", "emergency_retry_s: must be 30 to 10800"),
        (TARGET + "emergency_expire_s = 99999", "emergency_expire_s"),
        (TARGET + 'base_url = "ftp://x"', "base_url"),
        (TARGET + 'language = "xx"', "language"),
        (TARGET + 'user_file = "x"', "user_file"),
        ('[notifier.targets.b]\nby = "catapush"\ntoken_file = "t"', "recipient"),
        ('[notifier.targets.b]\nby = "pigeon"\ntoken_file = "t"', "by"),
        ('[notifier.targets."B b"]\nby = "apprise"\ntoken_file = "t"', "targets"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, key):
    with pytest.raises(ConfigError, match="site.toml: ") as caught:
        notifier_of(site(tmp_path, text))
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read"), ("", "one word"), ("a b", "one word")]
)
def test_a_secret_that_is_none_is_named_and_not_shown(tmp_path, content, reason):
    one = site(tmp_path, TARGET)
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        channels_of(one, notifier_of(one), None)
    assert "notifier.targets.anna.token_file" in str(caught.value)


def test_the_example_is_read(tmp_path):
    from pathlib import Path

    example = Path(__file__).parents[1] / "config.example.toml"
    one = load(example, "notifier", environ={})
    assert list(notifier_of(one).targets) == ["anna"]
