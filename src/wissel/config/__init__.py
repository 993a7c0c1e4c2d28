"""The operator's file: read, checked in every part, and compiled into a snapshot.

    YAML -> document (values with their places) -> model (shapes) -> Config -> compile -> Snapshot
                                                -> references (names)
                          every problem of one run -> ConfigError

A new section is a module in `model`, its names in `references`, and what the
decision needs of it in `compile`.
"""

from wissel.config.compile import (
    admin_token,
    classifier_keys,
    compile_snapshot,
    redis_url,
    revision,
    viewer_token,
)
from wissel.config.compile_rollouts import compile_rollouts
from wissel.config.files import named_files
from wissel.config.load import load, parse
from wissel.config.model import Config, host_and_port, json_schema, worker_address
from wissel.config.notes import caller_notes, passthrough_notes, price_notes

__all__ = [
    "Config",
    "admin_token",
    "caller_notes",
    "classifier_keys",
    "compile_rollouts",
    "compile_snapshot",
    "host_and_port",
    "json_schema",
    "load",
    "named_files",
    "parse",
    "passthrough_notes",
    "price_notes",
    "redis_url",
    "revision",
    "viewer_token",
    "worker_address",
]
