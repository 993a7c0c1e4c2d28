"""One controller at a time, and a number that tells it from those before.

The lease ends by itself when its holder no longer renews it. That alone is not
enough: a holder that was frozen believes in its lease when it wakes. So every
new lease takes the next number, and a change under an older one is refused
where it would be made (`Records.put`).
"""

from typing import Final

from wissel.store.connection import RedisConnection, Script
from wissel.store.keys import Keys

LEASE_SECONDS: Final = 5.0
"""How long a lease lasts unless it is renewed."""

# KEYS: lease, fence. ARGV: holder, milliseconds.
_TAKE: Final = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('GET', KEYS[2]) or redis.call('INCR', KEYS[2])) end
return redis.call('INCR', KEYS[2])
""")

# KEYS: lease. ARGV: holder.
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
""")


class Lease:
    """The controller's lease, as one would-be holder sees it; `holder` names this life of it, and no other ever.

    Every method raises StoreError while Redis is away.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, holder: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._connection = connection
        self._keys = keys
        self._holder = holder
        self._seconds = seconds

    async def take(self) -> int | None:
        """Take or renew it: the fencing token, the same as long as it is held; None while another holds it."""
        names = [self._keys.lease, self._keys.fence]
        token: int = await self._connection.call(_TAKE, names, [self._holder, round(self._seconds * 1000)])
        return token or None

    async def release(self) -> None:
        """Let the next one have it at once."""
        await self._connection.call(_RELEASE, [self._keys.lease], [self._holder])
