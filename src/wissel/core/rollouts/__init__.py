"""Judging canaries: evidence becomes a verdict, a verdict becomes the next weight. Pure."""
