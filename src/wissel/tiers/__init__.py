"""Strong or weak: graders that predict how often the strong model answers better (RouteLLM, arXiv 2406.18665).

    prompts (texts, vectors) -> grader -> win rates -> threshold -> strong or weak

Every grader is an ordinary object with `win_rates`; those that learn are
trained by `train`, saved as safetensors beside a readable card by `artifact`,
and loaded without pickle. Embeddings come from outside: `Prompts` carries
them, so the request path encodes a text once for intent and tier alike.
"""
