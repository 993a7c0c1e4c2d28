"""The shapes of the configuration file: a module a section, a class a mapping.

What one value must be is said here; what must be true between values (names
that exist, weights that add up) is in `references`. The docstring of a field
is its description in the JSON Schema, so it speaks to the operator.

`forms` has what a single value looks like, `section` what the sections share,
and `root` puts them together into `Config`. Others take the names from here.
"""

from wissel.config.model.access import EnvoyIdentity, Jwt, Limit, Rule, When
from wissel.config.model.envoy import Cluster, ClusterTls, Discovery, HealthCheck
from wissel.config.model.forms import Day, host_and_port, quote, unix_time, worker_address
from wissel.config.model.intent import (
    ArchRouterClassifier,
    CascadeClassifier,
    Classifier,
    EmbeddingClassifier,
    Encoder,
    FolderEncoder,
    Intent,
    PackagedEncoder,
    RemoteClassifier,
    RemoteEncoder,
    Route,
    StaticClassifier,
)
from wissel.config.model.models import Failover, Health, Model, Passthrough, Timeouts
from wissel.config.model.rollouts import (
    Analysis,
    AnalysisStep,
    Metric,
    Pause,
    Rollout,
    Step,
    Target,
    Weight,
)
from wissel.config.model.root import Config, json_schema
from wissel.config.model.section import Credential, HeaderCondition, Secret
from wissel.config.model.serving import LOOPBACK_ADMIN, AdminTls, Redis
from wissel.config.model.splits import Split
from wissel.config.model.telemetry import Exports, Traces
from wissel.config.model.tiers import Grader, Tier

__all__ = [
    "LOOPBACK_ADMIN",
    "AdminTls",
    "Analysis",
    "AnalysisStep",
    "ArchRouterClassifier",
    "CascadeClassifier",
    "Classifier",
    "Cluster",
    "ClusterTls",
    "Config",
    "Credential",
    "Day",
    "Discovery",
    "EmbeddingClassifier",
    "Encoder",
    "EnvoyIdentity",
    "Exports",
    "Failover",
    "FolderEncoder",
    "Grader",
    "HeaderCondition",
    "Health",
    "HealthCheck",
    "Intent",
    "Jwt",
    "Limit",
    "Metric",
    "Model",
    "PackagedEncoder",
    "Passthrough",
    "Pause",
    "Redis",
    "RemoteClassifier",
    "RemoteEncoder",
    "Rollout",
    "Route",
    "Rule",
    "Secret",
    "Split",
    "StaticClassifier",
    "Step",
    "Target",
    "Tier",
    "Timeouts",
    "Traces",
    "Weight",
    "When",
    "host_and_port",
    "json_schema",
    "quote",
    "unix_time",
    "worker_address",
]
