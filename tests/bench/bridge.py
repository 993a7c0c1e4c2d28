"""Learns the bridge from the Universal Sentence Encoder to MiniLM, and says how well it stands.

    python -m tests.bench.bridge --clinc FOLDER [--out src/wissel/encoders/bridge.npz]

The map is ridge regression on CLINC150's training messages, whose penalty the validation messages choose; the gate is
logistic regression on the wordings of the same messages against ordinary texts in fifteen other languages.
"""

import json
import random
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from wissel.classifiers.encoders import ensure
from wissel.encoders.base import Vectors, unit
from wissel.encoders.export.packaged import PARTS
from wissel.encoders.logistic import fit_line
from wissel.encoders.ordinary import PIVOT, ordinary_texts
from wissel.encoders.transformer import Transformer
from wissel.encoders.universal import Universal

MESSAGES = 6000
PENALTIES = (1.0, 3.0, 10.0, 30.0)
LOOSENESS = 1.0
OUT = Path(__file__).parents[2] / "src" / "wissel" / "encoders" / "bridge.npz"


def main(
    clinc: Annotated[Path, typer.Option(help="A folder with CLINC150.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
) -> None:
    """Writes the file and prints how near the mapped vectors come."""
    for name in ("minilm", "use"):
        ensure(name)
    minilm, use = Transformer.load(PARTS["minilm"].folder()), Universal.load(PARTS["use"].folder())

    def read(texts: list[str]) -> tuple[Vectors, Vectors, Vectors]:
        ours, theirs = minilm.read(texts), use.read(texts)
        return (
            np.stack([each.vectors[0] for each in ours]),
            np.stack([each.wordings[0] for each in ours]),
            np.stack([each.vectors[0] for each in theirs]),
        )

    train, val = (_messages(clinc / f"{split}.jsonl") for split in ("train", "val"))
    train = random.Random(0).sample(train, min(MESSAGES, len(train)))
    vectors, wordings, known = read(train)
    asked, _, asked_known = read(val[::3])
    wanted = np.hstack([vectors, wordings])
    maps = {penalty: _ridge(known, wanted, penalty) for penalty in PENALTIES}
    nearness = {
        penalty: float((unit(asked_known @ found[:, : minilm.dimensions]) * asked).sum(axis=1).mean())
        for penalty, found in maps.items()
    }
    best = max(nearness, key=lambda penalty: nearness[penalty])
    print(f"cosines with MiniLM's own, by penalty: {nearness}")
    foreign = [each.text for each in ordinary_texts() if each.language != PIVOT]
    english = [each.text for each in ordinary_texts() if each.language == PIVOT]
    _, strange, _ = read(foreign)
    _, own, _ = read(english)
    inside = np.vstack([wordings[::4], own])
    line = fit_line(
        np.vstack([inside, strange]), np.arange(len(inside) + len(strange)) >= len(inside), looseness=LOOSENESS
    )
    np.savez_compressed(
        out, map=maps[best].astype(np.float16), foreign=np.append(line.weights, line.bias).astype(np.float32)
    )


def _ridge(known: Vectors, wanted: Vectors, penalty: float) -> NDArray[np.floating]:
    return np.linalg.solve(known.T @ known + penalty * np.eye(known.shape[1]), known.T @ wanted)


def _messages(path: Path) -> list[str]:
    return [json.loads(line)["messages"][-1]["content"] for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    typer.run(main)
