"""Win rates on the request path: shared embeddings, deadlines, fallbacks."""

import asyncio
import json
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.json_format import ParseDict
from safetensors.numpy import save_file
from typer.testing import CliRunner

from factories import conversation, request, snapshot
from tiers.world import battles, encode
from wissel.admin.views import decision_view
from wissel.classifiers.build import Sentences
from wissel.cli import app
from wissel.config import parse
from wissel.config.model import Tier as Section
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.tier import Budget, Thresholds, Tier, WinRate
from wissel.encoders.base import read_with
from wissel.encoders.batching import Batcher
from wissel.errors import ModelError, WorldError
from wissel.extproc.dry_run import dry_run
from wissel.extproc.session import Peer, Session
from wissel.offline.dry import explain
from wissel.router import Advisers, Router, SharedParts
from wissel.telemetry.counting import Telemetry
from wissel.tiers import artifact
from wissel.tiers.artifact import Card, baseline
from wissel.tiers.grading import EmbeddingGrader, Graders, TextGrader, ThreadGrader, calibrated
from wissel.tiers.similarity import SimilarityGrader

similarity = SimilarityGrader.fit(battles(100))
thrifty = Tier("thrifty", strong="large", weak="small", policy=Budget(0.3, 0.5, 0.01), deadline=0.05)


@pytest.fixture
async def batcher():
    made = Batcher(read_with(encode))
    yield Sentences(made)
    await made.close()


@pytest.fixture
def telemetry():
    return Telemetry()


def router_with(grader, telemetry: Telemetry, tier: Tier = thrifty) -> Router:
    config = snapshot(tiers={"thrifty": tier})
    return Router(
        config,
        Advisers(graders={"thrifty": grader}),
        SharedParts(telemetry=telemetry, thresholds=Thresholds(config.tiers)),
    )


async def decide(router: Router, text: str = "please tell about proof") -> Routed:
    answer = router.decide(request("thrifty", text), ANONYMOUS, "r")
    decision = answer if isinstance(answer, Routed) else await answer
    assert isinstance(decision, Routed)
    return decision


class Slow:
    def recall(self, _):
        return None

    async def win_rate(self, _):
        await asyncio.sleep(60)


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def recall(self, _):
        return None

    async def win_rate(self, _):
        raise self.error


async def test_the_embedding_is_the_classifiers_own(batcher):
    grader = EmbeddingGrader(similarity, batcher)
    asked = conversation("hello", "hi", "  please tell about proof ")
    before = grader.recall(asked)
    await batcher.encode(["please tell about proof"])
    after = grader.recall(asked)

    assert before is None
    assert after == await grader.win_rate(asked)
    assert after.grader == "similarity"


async def test_a_tier_decides_at_once_where_nothing_must_be_encoded(telemetry):
    answer = router_with(TextGrader(baseline("always_strong")), telemetry).decide(request("thrifty"), ANONYMOUS, "r")

    assert isinstance(answer, Routed)
    assert (answer.model.name, answer.tier.win_rate) == ("large", 1.0)


async def test_a_tier_waits_for_the_encoder(batcher, telemetry):
    decision = await decide(router_with(EmbeddingGrader(similarity, batcher), telemetry))

    assert decision.tier.reason == "threshold"
    assert 0 < decision.tier.win_rate < 1


@pytest.mark.parametrize(
    ("grader", "reason"),
    [(Slow(), "late"), (Broken(WorldError("away")), "failed"), (Broken(RuntimeError("a bug")), "failed")],
)
async def test_a_grader_that_gives_no_answer_costs_the_choice_only(grader, reason, telemetry):
    decision = await decide(router_with(grader, telemetry, replace(thrifty, fallback="weak")))

    assert (decision.model.name, decision.tier.reason, decision.reason) == ("small", reason, "error")


async def test_a_request_without_text_takes_the_fallback_and_asks_nobody(telemetry):
    decision = await decide(router_with(Broken(AssertionError("was asked")), telemetry), "  ")

    assert (decision.model.name, decision.tier.reason) == ("large", "empty")


async def test_only_what_was_served_moves_the_threshold(telemetry):
    router = router_with(TextGrader(baseline("always_strong")), telemetry)
    decision = await decide(router)
    dry = router.shared.thresholds.of(thrifty).threshold
    router.served(decision)

    assert dry == 0.5
    assert router.shared.thresholds.of(thrifty).threshold == pytest.approx(0.507)


async def test_tiers_are_counted(telemetry):
    telemetry.decided(await decide(router_with(TextGrader(baseline("always_weak")), telemetry)), 0.001)

    assert b'wissel_tier_requests_total{end="weak",reason="threshold",tier="thrifty"} 1.0' in telemetry.exposition()
    assert b'wissel_tier_threshold{tier="thrifty"} 0.5' in telemetry.exposition()


async def test_a_torch_grader_computes_in_a_thread_of_its_own():
    grader = ThreadGrader(baseline("always_strong"))

    assert grader.recall(conversation("hello")) is None
    assert await grader.win_rate(conversation("hello")) == WinRate(1.0, "always_strong")


def section(tmp_path, kind: str = "similarity") -> Section:
    text = (
        "models: [{name: large, cluster: a}, {name: small, cluster: b}]\n"
        f"tiers: [{{name: thrifty, strong: large, weak: small, grader: {{type: {kind}, path: {tmp_path}}}, "
        "strong_share: 0.3}]\n"
    )
    return parse(text, "f").tiers[0]


async def test_the_card_says_where_a_budget_begins_and_how_fast_it_moves(tmp_path, batcher):
    quantiles = tuple(np.linspace(0.4, 0.6, 201).tolist())
    artifact.save(tmp_path, similarity, Card("similarity", 0, quantiles=quantiles, settings=similarity.settings()))

    async def embedder():
        return batcher

    config = snapshot(tiers={"thrifty": thrifty})
    graders, tiers = await Graders(embedder).build([section(tmp_path)], config)

    assert isinstance(graders["thrifty"], EmbeddingGrader)
    assert tiers["thrifty"].policy.start == pytest.approx(0.54)
    assert tiers["thrifty"].policy.step == pytest.approx(0.3 * 0.1)


async def test_a_folder_with_another_kind_of_grader_is_refused(tmp_path, batcher):
    artifact.save(tmp_path, similarity, Card("similarity", 0, settings=similarity.settings()))

    with pytest.raises(ModelError, match="is of type similarity, and the configuration says neighbours"):
        await Graders(lambda: pytest.fail("not needed")).build([section(tmp_path, "neighbours")], snapshot())


def test_a_configuration_whose_grader_is_missing_is_found_wanting(tmp_path):
    (tmp_path / "wissel.yaml").write_text(
        "models: [{name: large, cluster: a}, {name: small, cluster: b}]\n"
        "tiers: [{name: thrifty, strong: large, weak: small, grader: {type: intent, path: gone}, threshold: 0.5}]\n"
    )
    result = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "wissel.yaml"), "--json"])

    assert result.exit_code == 2
    assert 'tiers[0].grader.path: no grader is in \\"gone\\"' in result.output


def test_a_fixed_threshold_needs_no_calibration():
    assert calibrated(replace(thrifty, policy=0.4), Card("length", 0, quantiles=(0.1, 0.2))).policy == 0.4


class Listener:
    """A stream of which nobody reads the other end."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.metadata: dict[bytes, bytes] = {}

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self, *_) -> None:
        pytest.fail("the stream was ended")


def header(key: str, value: str) -> dict[str, str]:
    return {"key": key, "raw_value": b64encode(value.encode()).decode()}


def spoken(message: dict) -> bytes:
    return ParseDict(message, pb.ProcessingRequest()).SerializeToString()


CALL = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "x", "content-type": "application/json"}
BODY = json.dumps({"model": "thrifty", "messages": [{"role": "user", "content": "hello"}]}).encode()


async def test_a_request_that_envoy_sends_moves_the_threshold_and_tells_why(telemetry):
    router = router_with(TextGrader(baseline("always_strong")), telemetry)
    stream = Listener()
    session = Session(stream, router, telemetry, Peer())
    session.message(
        spoken({"request_headers": {"headers": {"headers": [header(name, value) for name, value in CALL.items()]}}})
    )
    session.message(spoken({"request_body": {"body": b64encode(BODY).decode(), "end_of_stream": True}}))
    answer = pb.ProcessingResponse.FromString(stream.sent[-1])
    told = answer.dynamic_metadata["wissel"]
    await asyncio.sleep(0)  # it is counted once the answer is out

    assert router.shared.thresholds.of(thrifty).requests == 1
    assert (told["tier"], told["tier_end"], told["tier_reason"]) == ("thrifty", "strong", "threshold")
    assert (told["win_rate"], told["threshold"]) == (1.0, 0.5)


async def test_a_dry_run_moves_nothing_and_tells_the_same(telemetry):
    router = router_with(TextGrader(baseline("always_strong")), telemetry)
    view = decision_view(await dry_run(router, CALL, BODY, request_id="dry-run"))

    assert router.shared.thresholds.of(thrifty).requests == 0
    assert view["tier"] == {
        "name": "thrifty",
        "end": "strong",
        "reason": "threshold",
        "win_rate": 1.0,
        "threshold": 0.5,
        "grader": "always_strong",
        "detail": None,
    }


async def test_a_tier_in_a_file_is_served_as_written(tmp_path):
    (tmp_path / "wissel.yaml").write_text(
        "models: [{name: large, cluster: a}, {name: small, cluster: b}]\n"
        "tiers: [{name: thrifty, strong: large, weak: small, grader: {type: length}, threshold: 0.5}]\n"
    )
    ends = [
        (await explain(tmp_path / "wissel.yaml", headers={}, body=body, caller=None, call=CALL[":path"])).model.name
        for body in (BODY, BODY.replace(b"hello", b"hello " * 200))
    ]

    assert ends == ["small", "large"]


async def test_a_grader_of_other_embeddings_is_refused_before_it_serves(tmp_path):
    artifact.save(tmp_path, similarity, Card("similarity", 0, settings=similarity.settings()))
    wider = Batcher(read_with(lambda texts: np.hstack([encode(texts)] * 2)))

    async def embedder():
        return Sentences(wider)

    with pytest.raises(ModelError, match="learned from other embeddings than this version makes"):
        await Graders(embedder).build([section(tmp_path)], snapshot(tiers={"thrifty": thrifty}))
    await wider.close()


async def test_a_grader_that_gives_no_number_is_refused_before_it_serves(tmp_path, batcher):
    artifact.save(tmp_path, similarity, Card("similarity", 0, settings=similarity.settings()))
    tensors = {**similarity.tensors(), "outcomes": np.full(100, np.nan, np.float32)}
    save_file(tensors, tmp_path / artifact.TENSORS_FILE)

    async def embedder():
        return batcher

    with pytest.raises(ModelError, match="gives the win rate nan"):
        await Graders(embedder).build([section(tmp_path)], snapshot(tiers={"thrifty": thrifty}))
