from pathlib import Path

import pytest

from wissel.errors import ConfigError
from wissel.runtime.folders import user_folder


def test_a_variable_says_where(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    assert user_folder("XDG_STATE_HOME", ".local/state", instead="WISSEL_DATA") == Path("/state/wissel")


def test_who_has_no_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))

    with pytest.raises(ConfigError, match="this user has no home folder; set WISSEL_DATA to a folder"):
        user_folder("XDG_STATE_HOME", ".local/state", instead="WISSEL_DATA")
