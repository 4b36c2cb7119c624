"""Puts the parts together from the configuration: channels with their secrets."""

import time

from sunmesh.config import Site
from sunmesh.errors import ConfigError

from .catapush import Catapush
from .config import NotifierConfig, Secrets, TargetConfig
from .outbox import Outbox
from .push import Channel
from .pushover import Pushover
from .transport import ask


def channels_of(site: Site, config: NotifierConfig, outbox: Outbox) -> dict[str, Channel]:
    """One channel for each target.

    Raises:
        ConfigError: a secret is missing, or an extra is not installed.
    """
    secrets = Secrets(site)
    return {
        name: _channel(name, target, config, secrets, outbox)
        for name, target in config.targets.items()
    }


def _channel(
    name: str, target: TargetConfig, config: NotifierConfig, secrets: Secrets, outbox: Outbox
) -> Channel:
    where = f"notifier.targets.{name}"
    token = secrets.read(f"{where}.token_file", target.token_file)
    match target.by:
        case "pushover":
            user = target.user or secrets.read(f"{where}.user_file", target.user_file)
            return Pushover(
                target, token, user, ask=ask, timeout_s=config.timeout_s, now_s=time.time
            )
        case "catapush":
            heard = outbox.was_called_back if config.callback_listen else None
            return Catapush(target, token, ask=ask, timeout_s=config.timeout_s, heard=heard)
        case "apprise":
            from .others import Apprise

            return Apprise(token, name)
    raise ConfigError(f"{where}.by: no back end is called {target.by}")
