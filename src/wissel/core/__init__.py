"""The decision, and nothing else: values in, values out.

Nothing here waits, reads a clock, draws a random number, logs or touches the
world, so every rule that decides about traffic can be read, tested and
explained alone.
"""
