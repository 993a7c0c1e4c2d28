from dataclasses import replace

from factories import api_key, forbid, model, permit, snapshot
from wissel.admin.configuration import configuration_view
from wissel.core.snapshot import Credential, Limit, Price, Rate


def test_it_tells_what_serves_what():
    view = configuration_view(snapshot(), {"revision": "r1", "config_problem": None})

    assert (view["revision"], view["problem"], view["fallback"], view["access"]) == ("r1", None, "chat", None)
    assert [(each["name"], each["target"]) for each in view["routes"]] == [("chat", "small"), ("code", "large")]
    assert [(each["name"], each["weight"]) for each in view["splits"][0]["variants"]] == [("small", 50), ("large", 50)]
    assert view["names"] == ["ab", "auto", "large", "pixel", "small"]


def test_a_file_that_is_not_in_use_is_told():
    assert configuration_view(snapshot(), {"config_problem": "models: none"})["problem"] == "models: none"


def test_no_secret_is_in_it():
    key = api_key("s-ada", id="ada")
    secretive = replace(model("small"), credential=Credential("secret", "sk-upstream"), price=Price(1.0, 2.0))
    view = configuration_view(snapshot(models=(secretive,), keys=(key,), rules=(permit(), forbid("none"))), {})

    assert view["access"] == {
        "principals": ["ada"],
        "rules": [
            {"id": "all", "effect": "permit", "shadow": False},
            {"id": "none", "effect": "forbid", "shadow": False},
        ],
    }
    assert view["models"][0]["price"] == {"input": 1.0, "output": 2.0, "cached_input": None}
    assert not any(secret in str(view) for secret in ("sk-upstream", key.sha256, "s-ada"))


def test_limits_are_told_in_the_units_of_the_configuration():
    limits = (
        Limit("budget", "group", usd=Rate(500_000_000_000, 86_400)),
        Limit("per-job", "header", header="x-job", requests=Rate(600, 60), concurrent=8),
    )
    view = configuration_view(snapshot(limits=limits), {})

    assert view["limits"] == [
        {
            "id": "budget",
            "per": "group",
            "requests": None,
            "tokens": None,
            "usd": {"amount": 500.0, "seconds": 86_400},
            "concurrent": None,
        },
        {
            "id": "per-job",
            "per": "header x-job",
            "requests": {"amount": 600.0, "seconds": 60},
            "tokens": None,
            "usd": None,
            "concurrent": 8,
        },
    ]
