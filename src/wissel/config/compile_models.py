"""What serves, models and passthroughs, as requests meet it: with its secret, and with the habits of its server."""

import json
from collections.abc import Mapping
from typing import Literal

from wissel.apis.providers import PROVIDERS, provider_of
from wissel.config import model
from wissel.config.secrets import Secrets
from wissel.core.snapshot import Credential, Model, Passthrough, Price


def compile_models(config: model.Config, secrets: Secrets) -> dict[str, Model]:
    """By name; `secrets` notes those that cannot be had."""
    paths, signed = base_paths(config), signed_clusters(config)
    return {
        each.name: Model(
            name=each.name,
            cluster=each.cluster,
            upstream_model=each.upstream_model,
            apis=each.apis,
            accepts=each.accepts,
            embeds=each.accepts if "accepts" in each.model_fields_set else None,
            context=each.context,
            credential=_credential(each.credential, f"models[{at}].credential", secrets),
            price=Price(each.price.input, each.price.output, each.price.cached_input) if each.price else None,
            provider=provider_name(each),
            base_path=paths.get(each.cluster, _path_of(provider_name(each), each.api_version)),
            is_signed=each.cluster in signed,
            api_version=each.api_version,
            forward_headers=each.forward_headers,
            stream_usage=each.stream_usage,
            defaults={name: json.dumps(value) for name, value in each.defaults.items()},
            drop_params=each.drop_params,
            fallbacks=each.fallbacks,
            first_token=each.timeouts.first_token,
        )
        for at, each in enumerate(config.models)
    }


def compile_passthrough(config: model.Config, secrets: Secrets, *, matters: bool) -> tuple[Passthrough, ...]:
    """Longest prefix first; `matters` is whether rules speak of models at all."""
    paths = base_paths(config)

    def entry(at: int, each: model.Passthrough) -> Passthrough:
        provider = each.provider or _provider_behind(each.cluster, config)
        return Passthrough(
            each.path_prefix,
            each.cluster,
            each.upgrade,
            reads_models=matters and each.names_models,
            credential=_credential(each.credential, f"passthrough[{at}].credential", secrets),
            provider=provider,
            base_path=paths.get(each.cluster, _path_of(provider, each.api_version)),
            api_version=each.api_version,
            forward_headers=each.forward_headers,
        )

    found = [entry(at, each) for at, each in enumerate(config.passthrough)]
    return tuple(sorted(found, key=lambda each: (-len(each.path_prefix), each.path_prefix)))


def base_paths(config: model.Config) -> Mapping[str, str]:
    """Of the clusters that have one of their own."""
    clusters = config.envoy.clusters if config.envoy else ()
    return {each.name: each.path for each in clusters if each.path is not None}


def _path_of(provider: str, version: str | None) -> str:
    row = PROVIDERS[provider]
    return row.path if version is None or row.versions is None else row.versions.path


def signed_clusters(config: model.Config) -> frozenset[str]:
    """Those whose requests Envoy signs."""
    return frozenset(each.name for each in (config.envoy.clusters if config.envoy else ()) if each.aws)


def provider_name(each: model.Model) -> str:
    """A row of `apis.providers`."""
    return each.provider or provider_of(each.apis).name


def _provider_behind(cluster: str, config: model.Config) -> str:
    """The one whose models a cluster serves; where they differ, or there are none, the one that most servers follow."""
    found = {provider_name(each) for each in config.models if each.cluster == cluster}
    return found.pop() if len(found) == 1 else provider_of(()).name


def _credential(
    written: model.Credential | Literal["forward"] | None, place: str, secrets: Secrets
) -> Credential | None:
    match written:
        case None:
            return None
        case "forward":
            return Credential("forward")
        case model.Credential(header=header, prefix=prefix):
            if prefix is None:
                prefix = "Bearer " if header == "authorization" else ""
            return Credential("secret", secrets.find(place, written) or "", header or "", prefix)
