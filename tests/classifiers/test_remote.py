import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from wissel.classifiers.remote import RemoteRouterModel
from wissel.core.intent import OTHER, choose_route
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.errors import UpstreamError

ROUTES = (Route("code", "m", "Writing code"), Route("travel", "m", "Booking flights"))
HI = Conversation((Turn("user", "hi"),))


def answer(content, steps=None):
    logprobs = {"content": steps} if steps else None
    return web.json_response({"choices": [{"message": {"content": content}, "logprobs": logprobs}]})


class Server:
    """An OpenAI-compatible server that answers what `replies` says, by request, the last one for ever."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked = []
        self.headers = []

    async def chat(self, request):
        self.asked.append(await request.json())
        self.headers.append(request.headers)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return await reply(request)

    @staticmethod
    def says(content, steps=None):
        async def reply(request):
            return answer(content, steps)

        return reply

    @staticmethod
    def fails(status, text=""):
        async def reply(request):
            return web.Response(status=status, text=text)

        return reply

    @staticmethod
    async def hangs(request):
        await asyncio.sleep(5)

    @staticmethod
    async def hangs_up(request):
        request.transport.close()


@asynccontextmanager
async def served(*servers, **options):
    """A remote router model whose endpoints are `servers`, in their order."""
    runners, urls = [], []
    for server in servers:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.chat)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/")
    remote = RemoteRouterModel(ROUTES, urls, "arch", **options)
    try:
        yield remote
    finally:
        await remote.close()
        for runner in runners:
            await runner.cleanup()


CODE = Server.says('{"route": "code"}')


async def test_the_answer_is_the_route():
    async with served(Server(CODE)) as remote:
        scores = await remote.classify(HI)

    assert scores.by_route == {"code": 1.0, "travel": 0.0, OTHER: 0.0}
    assert choose_route(scores, fallback="travel").route == "code"


async def test_what_is_sent_is_the_prompt_greedy_and_guided():
    server = Server(CODE)
    async with served(server, api_key="s3cret") as remote:
        await remote.classify(HI)

    [asked] = server.asked
    [message] = asked.pop("messages")
    assert message["role"] == "user"
    assert message["content"].startswith("\nYou are a helpful assistant designed to find the best suited route.\n")
    assert '[{"role": "user", "content": "hi"}]' in message["content"]
    assert asked.pop("response_format")["json_schema"]["schema"]["properties"] == {
        "route": {"type": "string", "enum": ["code", "travel", "other"]}
    }
    assert asked == {"model": "arch", "temperature": 0, "max_tokens": 64, "logprobs": True, "top_logprobs": 20}
    assert server.headers[0]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("guide", "sent"),
    [
        (
            "choice",
            {"structured_outputs": {"choice": ['{"route": "code"}', '{"route": "travel"}', '{"route": "other"}']}},
        ),
        ("guided_choice", {"guided_choice": ['{"route": "code"}', '{"route": "travel"}', '{"route": "other"}']}),
        ("none", {}),
    ],
)
async def test_each_kind_of_server_is_guided_in_its_own_way(guide, sent):
    server = Server(CODE)
    async with served(server, guide=guide) as remote:
        await remote.classify(HI)

    [asked] = server.asked
    assert {
        key: asked[key] for key in asked.keys() & {"structured_outputs", "guided_choice", "response_format"}
    } == sent


async def test_a_regex_and_a_grammar_quote_the_answers():
    server = Server(CODE)
    async with served(server, guide="regex") as remote:
        await remote.classify(HI)
    async with served(server, guide="grammar") as remote:
        await remote.classify(HI)

    assert server.asked[0]["regex"].startswith(r'(\{"route":\ "code"\})|')
    assert server.asked[1]["grammar"].startswith(r'root ::= "{\"route\": \"code\"}" | ')


async def test_the_successors_schema_is_an_array_of_at_most_one():
    server = Server(Server.says('{"route": []}'))
    async with served(server, profile="plano_orchestrator") as remote:
        scores = await remote.classify(HI)

    schema = server.asked[0]["response_format"]["json_schema"]["schema"]["properties"]["route"]
    assert schema == {"type": "array", "items": {"type": "string", "enum": ["code", "travel"]}, "maxItems": 1}
    assert scores.ranking[0] == (OTHER, 1.0)


async def test_log_probabilities_become_probabilities():
    steps = [
        {"token": '{"route": "', "logprob": 0.0, "top_logprobs": []},
        {
            "token": "code",
            "logprob": -0.5,
            "top_logprobs": [{"token": "code", "logprob": -0.5}, {"token": "travel", "logprob": -1.5}],
        },
    ]
    async with served(Server(Server.says('{"route": "code"}', steps))) as remote:
        scores = await remote.classify(HI)

    assert scores.by_route == pytest.approx({"code": 0.731, "travel": 0.269, OTHER: 0.0}, abs=1e-3)


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("poetry", "unknown", "the router model named no route of ours"),
        ("I cannot say.", "unreadable", "the router model's answer names nothing"),
        ("", "other", ""),
    ],
)
async def test_an_answer_that_is_no_route_is_other_and_counted_and_told(said, kind, told):
    async with served(Server(Server.says(said))) as remote:
        scores = await remote.classify(HI)

        assert scores.ranking[0] == (OTHER, 1.0)
        assert remote.readings == {kind: 1}
        assert scores.detail == told


async def test_a_server_that_refuses_an_extra_is_asked_without_it_from_then_on():
    server = Server(Server.fails(400, "logprobs"), Server.fails(422, "response_format"), CODE)
    async with served(server) as remote:
        await remote.classify(HI)
        await remote.classify(Conversation((Turn("user", "again"),)))

    extras = [asked.keys() & {"logprobs", "response_format"} for asked in server.asked]
    assert extras == [{"logprobs", "response_format"}, {"response_format"}, set(), set()]


async def test_a_request_that_is_refused_whatever_is_left_out_costs_no_extras():
    server = Server(*[Server.fails(400, "too long")] * 3, CODE)
    async with served(server, attempts=1) as remote:
        with pytest.raises(UpstreamError, match="too long"):
            await remote.classify(HI)

        await remote.classify(HI)

    assert server.asked[-1].keys() >= {"logprobs", "response_format"}


async def test_what_was_asked_before_is_remembered():
    server = Server(CODE)
    async with served(server) as remote:
        first = await remote.classify(HI)
        second = await remote.classify(HI)

        assert second is first is remote.recall(HI)
    assert len(server.asked) == 1


async def test_nothing_said_is_other_without_asking():
    server = Server(CODE)
    async with served(server) as remote:
        scores = await remote.classify(Conversation((Turn("tool", "{}"),)))

    assert choose_route(scores, fallback="code").reason == "other"
    assert server.asked == []


@pytest.mark.parametrize(
    "bad",
    [
        Server.fails(500),
        Server.fails(429),
        Server.hangs,
        Server.hangs_up,
        Server.fails(200, "<html>"),
        Server.fails(200, '{"choices": []}'),
        Server.fails(400),
    ],
    ids=["500", "429", "hangs", "hangs up", "no JSON", "no choice", "refuses"],
)
async def test_what_one_endpoint_cannot_do_another_does(bad):
    broken, sound = Server(bad), Server(CODE)
    async with served(broken, sound, timeout=0.4) as remote:
        scores = await remote.classify(HI)

    assert scores.ranking[0][0] == "code"
    assert broken.asked


async def test_a_single_endpoint_is_asked_twice_if_it_fails_at_once():
    server = Server(Server.hangs_up, CODE)
    async with served(server) as remote:
        scores = await remote.classify(HI)

    assert scores.ranking[0][0] == "code"


async def test_all_endpoints_failing_is_the_worlds_fault_and_said():
    async with served(Server(Server.fails(503, "loading")), Server(Server.hangs), timeout=0.2) as remote:
        with pytest.raises(UpstreamError, match=r"HTTP 503: loading.*no answer in time"):
            await remote.classify(HI)


async def test_endpoints_share_the_load():
    one, two = Server(CODE), Server(CODE)
    async with served(one, two) as remote:
        for text in "abcd":
            await remote.classify(Conversation((Turn("user", text),)))

    assert (len(one.asked), len(two.asked)) == (2, 2)


async def test_an_endpoint_that_keeps_failing_is_left_alone_and_the_log_says_so_once():
    broken, sound = Server(Server.fails(500)), Server(CODE)
    with capture_logs() as logs:
        async with served(broken, sound) as remote:
            for number in range(30):
                await remote.classify(Conversation((Turn("user", str(number)),)))

    assert len(broken.asked) == 5
    assert len(sound.asked) == 30
    assert [(line["event"], "HTTP 500" in line["why"]) for line in logs] == [("endpoint_left_alone", True)]


async def test_with_every_endpoint_left_alone_the_answer_is_no_at_once():
    server = Server(Server.fails(500))
    async with served(server) as remote:
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await remote.classify(HI)

        with pytest.raises(UpstreamError, match="left alone"):
            await remote.classify(HI)
    assert len(server.asked) == 5


async def test_a_caller_that_gives_up_is_not_the_endpoints_failure():
    server = Server(*[Server.hangs] * 6, CODE)
    async with served(server) as remote:
        for _ in range(6):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await remote.classify(HI)

        assert (await remote.classify(HI)).ranking[0][0] == "code"


async def test_a_caller_that_gives_up_late_has_found_the_endpoint_slow():
    server = Server(Server.hangs)
    async with served(server, timeout=0.06) as remote:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await remote.classify(HI)

        with pytest.raises(UpstreamError, match="left alone"):
            await remote.classify(HI)


async def test_an_endless_answer_is_cut_off():
    async def floods(request):
        return web.Response(body=b"x" * (2 << 20))

    async with served(Server(floods)) as remote:
        with pytest.raises(UpstreamError, match="more than"):
            await remote.classify(HI)


@pytest.mark.slow
async def test_a_server_process_answers_as_the_model_does_here(tmp_path):
    from classifiers import tiny_router_model
    from wissel.classifiers.arch_router import ArchRouter

    weights = tiny_router_model.trained()
    weights.save_pretrained(tmp_path)
    tiny_router_model.tokenizer().save_pretrained(tmp_path)
    local = ArchRouter(tiny_router_model.ROUTES, tiny_router_model.arch_model(weights))
    script = Path(__file__).with_name("openai_server.py")
    process = await asyncio.create_subprocess_exec(sys.executable, script, tmp_path, stdout=asyncio.subprocess.PIPE)
    remote = None
    try:
        port = int(await process.stdout.readline())
        remote = RemoteRouterModel(tiny_router_model.ROUTES, [f"http://127.0.0.1:{port}/v1"], "tiny", timeout=20.0)
        for chat, _ in tiny_router_model.sayings(12, seed=11):
            there, here = await remote.classify(chat), await local.classify(chat)
            assert there.ranking[0][0] == here.ranking[0][0]
            assert there.ranking[0][1] == pytest.approx(here.ranking[0][1], abs=0.1)
    finally:
        if remote:
            await remote.close()
        process.terminate()
        await process.wait()
