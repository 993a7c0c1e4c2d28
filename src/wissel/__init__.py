"""wissel: an Envoy external processor for LLM traffic."""

__version__ = "0.1.0"
