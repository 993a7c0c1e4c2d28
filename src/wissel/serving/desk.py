"""Who may call the admin listener, and by which certificates it speaks, as the files say now."""

from wissel.admin.guard import Staff, staff
from wissel.admin.listener import AdminListener, admin_context
from wissel.config import Config


class AdminDesk:
    """Of one process. Raises ConfigError for a token or a certificate that cannot be had."""

    def __init__(self, config: Config) -> None:
        self.config = config
        """The last one that could be read."""
        self._address = config.listen.admin
        self._staff = staff(config)
        self.context = admin_context(config.admin.tls)
        self.listener: AdminListener | None = None
        """None in a worker, whose supervisor has it."""

    def staff(self) -> Staff:
        """Who may call at this moment."""
        return self._staff

    async def renew(self, config: Config) -> None:
        """Take tokens, names and certificates from this configuration.

        Raises ConfigError for what cannot be had: certificates as they were go on, but a token never waits for them.
        """
        self.config = config
        if config.listen.admin != self._address:
            # Who may call was judged for another address: on loopback everybody may.
            return
        self._staff = staff(config)
        self.context = admin_context(config.admin.tls)
        if self.listener is not None:
            await self.listener.serve(self.context)
