"""The operator's side door: health, metrics, and what a decision would be."""
