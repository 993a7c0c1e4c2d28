"""A small world in which some topics are hard: labels that a grader can learn from, and an encoder of words."""

import json
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from wissel.tiers.base import STRONG, WEAK, Battles, Prompts

DIMENSIONS = 32
HARD = ("proof", "integral", "theorem", "kernel")
EASY = ("weather", "recipe", "greeting", "capital")


def encode(texts: Sequence[str]) -> np.ndarray:
    """Texts with the same words point the same way."""
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row] += np.random.default_rng(crc32(word.encode())).normal(size=DIMENSIONS)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(count: int, *, seed: int = 0) -> list[dict]:
    """Prompts of one topic each; only on the hard ones does the strong model help, and not always."""
    rng = np.random.default_rng(seed)
    found = []
    for at in range(count):
        topic = (*HARD, *EASY)[rng.integers(0, 8)]
        is_hard = topic in HARD
        weak = int(rng.random() < (0.3 if is_hard else 0.9))
        prompt = f"please tell about {topic} {topic} {topic} number {at % 10} {'and ' * int(rng.integers(0, 4))}thanks"
        found.append({"prompt": prompt, "subject": topic, "strong": int(rng.random() < 0.9), "weak": weak})
    return found


def write(path: Path, found: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def battles(count: int = 400, *, seed: int = 0) -> Battles:
    found = rows(count, seed=seed)
    return Battles(
        Prompts.embed([row["prompt"] for row in found], encode),
        (STRONG, WEAK),
        np.zeros(count, np.intp),
        np.ones(count, np.intp),
        np.array([row["strong"] for row in found], float),
        np.array([row["weak"] for row in found], float),
        np.ones(count),
        tuple(row["subject"] for row in found),
    )
