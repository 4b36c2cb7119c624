"""Everything else (ntfy, Telegram, mail ...) through Apprise, an extra: ``notifier[apprise]``.

Apprise says yes or no and nothing more: no receipt, no reason, no way to ask what was taken.
"""

import logging
from typing import Any

from sunmesh.errors import ConfigError

from .push import Later, Outcome, Plain, Push, Taken

log = logging.getLogger(__name__)

TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


class Apprise(Plain):
    """One address of Apprise.

    Args:
        address: such as ``ntfy://...``; a secret.
        name: of the target, for texts.

    Raises:
        ConfigError: Apprise is not installed, or does not know such an address.
    """

    def __init__(self, address: str, name: str) -> None:
        """Loads Apprise, which only who uses it pays for."""
        try:
            import apprise
        except ImportError as err:
            raise ConfigError(
                f"notifier.targets.{name}: apprise is not installed (pip install notifier[apprise])"
            ) from err
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines hold addresses
        self._apprise: Any = apprise.Apprise()
        if not self._apprise.add(address):
            raise ConfigError(f"notifier.targets.{name}: apprise does not know such an address")
        super().__init__(f"apprise {name}")

    def send(self, push: Push) -> Outcome:
        """Hand it to Apprise."""
        body = f"{push.body}\n{push.url}" if push.url else push.body
        kind = "success" if push.kind == "cleared" else TYPES[push.severity]
        try:
            is_done = self._apprise.notify(
                body=body, title=push.title, notify_type=kind, body_format="text"
            )
        except Exception as err:
            log.debug("apprise", exc_info=True)
            return Later(f"apprise: {type(err).__name__}")
        return Taken() if is_done else Later("apprise could not deliver it and says no more")
