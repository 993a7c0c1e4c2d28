import asyncio
import subprocess
import sys
import threading

import pytest

from classifiers.tiny_router_model import ROUTES, arch_model, asking, generate, sayings, tokenizer, trained, untrained
from wissel.classifiers.arch_prompt import PROFILES, read_answer
from wissel.classifiers.arch_router import ArchRouter, Gatherer, load_model
from wissel.classifiers.memory import AnswerMemory
from wissel.core.intent import OTHER, Scores, choose_route
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.errors import ModelError

pytestmark = pytest.mark.slow

NAMES = [route.name for route in ROUTES]


def router(**options):
    return ArchRouter(ROUTES, arch_model(), **options)


def top(scores):
    return scores.ranking[0][0]


@pytest.mark.slow
async def test_the_answer_is_the_one_that_generate_gives_whenever_that_is_a_route():
    weights = trained()
    judge = ArchRouter(ROUTES, arch_model(weights))
    seen = set()
    for chat, _ in sayings(40, seed=7):
        free = generate(weights, PROFILES["arch_router"].prompt(ROUTES, chat.turns))
        reading = read_answer(free, NAMES)
        if reading.kind in {"route", "other"}:
            seen.add(reading.route)
            assert top(await judge.classify(chat)) == reading.route

    assert seen == {*NAMES, OTHER}
    assert judge.outcomes["route"] > judge.outcomes["strayed"]


@pytest.mark.slow
async def test_a_trained_model_is_sure_of_its_route():
    judge = ArchRouter(ROUTES, arch_model(trained()))

    scores = await judge.classify(asking("please now flight again"))

    assert choose_route(scores, fallback="code_review").route == "travel"
    assert scores.by_route["travel"] > 0.5


@pytest.mark.slow
async def test_the_fallback_serves_what_the_model_calls_other():
    judge = ArchRouter(ROUTES, arch_model(trained()))

    intent = choose_route(await judge.classify(asking("please now thanks again")), fallback="code_review")

    assert (intent.route, intent.reason) == ("code_review", "other")


async def test_every_route_and_other_have_a_probability():
    scores = await router().classify(asking("hi"))

    assert list(scores.by_route) == [*NAMES, OTHER]
    assert sum(scores.by_route.values()) == pytest.approx(1.0, abs=0.2)
    assert scores.classifier == "arch_router"


@pytest.mark.parametrize("seed", range(4))
async def test_the_greedy_answer_leads_whatever_the_weights(seed):
    model = arch_model(untrained(seed))
    judge = ArchRouter(ROUTES, model)
    chat = asking("hi", "there")
    tokens = model.encode_prompt(PROFILES["arch_router"].prompt(ROUTES, chat.turns))
    [judgement] = model.choose([tokens], judge.prefix, judge.trie)

    assert top(await judge.classify(chat)) == [*NAMES, OTHER][judgement.choice.greedy]


async def test_the_order_of_routes_is_the_operators():
    scores = await ArchRouter(ROUTES[::-1], arch_model()).classify(asking("hi"))

    assert list(scores.by_route) == [*NAMES[::-1], OTHER]


async def test_the_prefix_holds_all_routes_and_ends_in_the_conversation():
    prefix = tokenizer().decode(router().prefix.tokens)

    assert prefix.endswith('<conversation>\n\n[{"role": "')
    assert all(name in prefix for name in NAMES)


async def test_what_was_asked_before_is_remembered():
    judge = router()
    assert judge.recall(asking("hi")) is None

    scores = await judge.classify(asking("hi"))

    assert judge.recall(asking("hi")) is scores
    assert judge.recall(asking("hi", "there")) is None


async def test_a_turn_that_only_carries_tool_results_keeps_its_route():
    judge = router()
    scores = await judge.classify(Conversation((Turn("user", "fix it"),)))

    looped = Conversation((Turn("user", "fix it"), Turn("assistant", ""), Turn("tool", "12 passed")))

    assert judge.recall(looped) is scores


@pytest.mark.parametrize("chat", [Conversation(), Conversation((Turn("system", "be nice"),))])
async def test_nothing_said_is_other_without_asking(chat):
    intent = choose_route(router().recall(chat), fallback="code_review")

    assert (intent.route, intent.reason) == ("code_review", "other")


async def test_an_unsure_answer_is_other_below_the_threshold():
    scores = await router(threshold=0.999).classify(asking("hi"))

    assert choose_route(scores, fallback="travel").reason == "other"


async def test_the_successors_answer_is_an_array():
    judge = ArchRouter(ROUTES, arch_model(), profile="plano_orchestrator")

    scores = await judge.classify(asking("hi"))

    assert list(scores.by_route) == [*NAMES, OTHER]


async def test_routes_of_one_name_are_refused():
    lossy = arch_model()
    lossy.encode = lambda text: [1, 2]

    with pytest.raises(ModelError, match="apart"):
        ArchRouter((Route("a", "m"),), lossy)


async def test_requests_that_come_while_the_model_is_busy_go_together():
    go = threading.Event()
    runs = []

    def run(batch):
        go.wait(5)
        runs.append(list(batch))
        return [item * 2 for item in batch]

    queue = Gatherer(run, weigh=lambda _: 1, limit=3, waiting=10)
    answers = [asyncio.create_task(queue.submit(i)) for i in range(6)]
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(*answers) == [0, 2, 4, 6, 8, 10]
    assert runs == [[0], [1, 2, 3], [4, 5]]


async def test_a_request_that_is_too_heavy_for_any_company_runs_alone():
    runs = []
    queue = Gatherer(lambda batch: runs.append(list(batch)) or batch, weigh=lambda item: item, limit=3, waiting=10)

    await asyncio.gather(*(queue.submit(weight) for weight in (1, 9, 2, 1)))

    assert runs == [[1], [9], [2, 1]]


async def test_a_caller_who_gave_up_is_not_computed():
    go = threading.Event()
    runs = []
    queue = Gatherer(
        lambda batch: (go.wait(5), runs.append(list(batch))) and batch, weigh=lambda _: 1, limit=1, waiting=2
    )
    tasks = [asyncio.create_task(queue.submit(i)) for i in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    late = asyncio.create_task(queue.submit(3))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(tasks[0], tasks[2], late)

    assert runs == [[0], [2], [3]]


async def test_a_full_queue_says_so_at_once():
    go = threading.Event()
    queue = Gatherer(lambda batch: go.wait(5) and batch, weigh=lambda _: 1, limit=1, waiting=1)
    tasks = [asyncio.create_task(queue.submit(i)) for i in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(ModelError, match="wait for the model"):
        await queue.submit(2)

    go.set()
    await asyncio.gather(*tasks)


async def test_a_failed_run_fails_its_own_callers_only():
    def run(batch):
        if 0 in batch:
            raise ModelError("out of memory")
        return batch

    queue = Gatherer(run, weigh=lambda _: 1, limit=1, waiting=9)

    first, second = await asyncio.gather(queue.submit(0), queue.submit(1), return_exceptions=True)

    assert isinstance(first, ModelError)
    assert second == 1


def test_memory_forgets_what_was_not_asked_for_longest():
    memory = AnswerMemory(size=2)
    chats = [(Turn("user", text),) for text in "abc"]
    for chat in chats[:2]:
        memory.keep(chat, Scores({}, 0.0))
    memory.recall(chats[0])

    memory.keep(chats[2], Scores({}, 0.0))

    assert [memory.recall(chat) is None for chat in chats] == [False, True, False]


def test_a_model_that_is_not_there_is_the_worlds_fault():
    with pytest.raises(ModelError, match='no model at "/nowhere"'):
        load_model("/nowhere")


@pytest.mark.slow
def test_torch_is_not_loaded_before_a_model_is():
    code = (
        "import sys, wissel.classifiers.arch_router; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
