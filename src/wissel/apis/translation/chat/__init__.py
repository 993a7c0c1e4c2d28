"""Chat completions, and whoever speaks them."""
