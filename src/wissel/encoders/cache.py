"""Where exports lie: a folder each, named after what it was made of, which appears whole or not at all.

So any number of processes may export at once, and an export that is there is never checked again.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from wissel.errors import ModelError
from wissel.runtime.folders import user_folder

CARD_FILE = "card.json"
"""In which an export of a transformer says what it is."""


def cache_folder() -> Path:
    """Of this user, or what WISSEL_CACHE says."""
    if chosen := os.environ.get("WISSEL_CACHE"):
        return Path(chosen)
    return user_folder("XDG_CACHE_HOME", ".cache", instead="WISSEL_CACHE")


def make(target: Path, fill: Callable[[Path], object]) -> Path:
    """The folder `target`, filled first where it is missing. Raises ModelError, and what `fill` raises.

    Where another process was quicker, its export stands and this one is thrown away.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside its destination, for a rename is atomic only within one file system.
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(f'the cache folder "{target.parent}" cannot be written; set WISSEL_CACHE: {error}') from error
    try:
        fill(scratch)
        scratch.chmod(0o755)  # mkdtemp's folders are the owner's alone, and a server may run as someone else
        scratch.rename(target)
    except OSError as error:
        # A rename never replaces a folder with files in it: another process was quicker, and its export is as good.
        if not target.is_dir():
            raise ModelError(f'the export could not be written to "{target}": {error}') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
