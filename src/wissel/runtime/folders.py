"""Where a user keeps what programs write: the folders of the XDG specification."""

import os
from pathlib import Path

from wissel.errors import ConfigError


def user_folder(variable: str, below_home: str, *, instead: str) -> Path:
    """wissel's folder below the one that `variable` names, else below the user's home.

    Raises ConfigError where there is no home, as in some containers; `instead` is what to set.
    """
    if found := os.environ.get(variable):
        return Path(found) / "wissel"
    try:
        return Path.home() / below_home / "wissel"
    except RuntimeError as error:
        raise ConfigError([f"this user has no home folder; set {instead} to a folder that may be written"]) from error
