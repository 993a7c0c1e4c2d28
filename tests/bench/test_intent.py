import json

import pytest
from tests.bench.intent import clinc_config, sgd_config

from wissel.config import parse
from wissel.errors import ConfigError


@pytest.fixture
def train(tmp_path):
    rows = [("play some jazz", "music"), ("a song", "music"), ("say it in dutch", "translate"), ("?", "other")]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"messages": [{"content": text}], "route": name}) for text, name in rows))
    return path


def test_of_each_intent_so_many_examples_are_drawn(train):
    routes = parse(clinc_config(train, "embedding", 1, 0)).routes

    assert [(each.name, len(each.examples)) for each in routes] == [("music", 1), ("translate", 1), ("general", 0)]


def test_all_examples_are_taken_where_no_number_is_given(train):
    music = parse(clinc_config(train, "embedding", None, 0)).routes[0]

    assert music.examples == ("play some jazz", "a song")


def test_a_cascade_begins_with_the_static_stage(train):
    stages = parse(clinc_config(train, "cascade", 1, 0)).intent.classifier.stages

    assert [each.type for each in stages] == ["static", "embedding"]


def test_a_domain_is_described_by_its_schema(tmp_path):
    path = tmp_path / "routes.json"
    path.write_text(json.dumps([{"name": "Buses", "description": "bus travel", "phrases": ["buy tickets"]}]))
    buses = parse(sgd_config(path, "embedding")).routes[0]

    assert (buses.name, buses.description, buses.examples) == ("Buses", "bus travel", ("buy tickets",))


def test_data_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r'train\.jsonl" cannot be read: No such file'):
        clinc_config(tmp_path / "train.jsonl", "embedding", 10, 0)
