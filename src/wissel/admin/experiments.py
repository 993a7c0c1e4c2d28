"""Experiments over HTTP: what each variant of a plain split came to, and how it differs from the first."""

import math
from typing import Any

from aiohttp import web

from wissel.admin.errors import error
from wissel.admin.rollouts import arm_view
from wissel.core.rollouts.measures import unit_of
from wissel.core.rollouts.sequential import SAMPLE_RATIO_EVIDENCE
from wissel.errors import StoreError
from wissel.rollouts.experiments import Contrast, Experiment, UnknownExperimentError, difference
from wissel.rollouts.replica import Fleet

View = dict[str, Any]


class ExperimentsApi:
    """The handlers; `fleet` is None where the configuration has no redis."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/experiments", self.list), web.get("/v1/experiments/{name}", self.get)]

    async def list(self, _: web.Request) -> web.Response:
        if self._fleet is None:
            return web.json_response({"experiments": []})
        try:
            found = await self._fleet.experiments.experiments()
        except StoreError as problem:
            return error(503, f"the store is away: {problem}", code="store_away")
        return web.json_response({"experiments": [experiment_view(each) for each in found]})

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self._fleet is None:
            return _unknown(name)
        try:
            return web.json_response(experiment_view(await self._fleet.experiments.experiment(name)))
        except UnknownExperimentError:
            return _unknown(name)
        except StoreError as problem:
            return error(503, f"the store is away: {problem}", code="store_away")


def _unknown(name: str) -> web.Response:
    return error(404, f'no split is named "{name}", or there is no redis to count it in', code="experiment_not_found")


def experiment_view(experiment: Experiment) -> View:
    """The first variant is the base that the others are held against."""
    split = experiment.split
    return {
        "name": split.name,
        "revision": split.revision,
        "base": experiment.base,
        "weights": {variant.name: variant.weight for variant in split.variants},
        "arms": {name: arm_view(arm) for name, arm in experiment.arms.items()},
        "mixed": experiment.mixed,
        "contrasts": [_contrast_view(each) for each in experiment.contrasts],
    }


def _contrast_view(contrast: Contrast) -> View:
    return {
        "variant": contrast.variant,
        "sample_ratio_evidence": round(contrast.ln_sample_ratio, 3),
        "sample_ratio_mismatch": contrast.ln_sample_ratio >= math.log(SAMPLE_RATIO_EVIDENCE),
        "metrics": [
            {
                "metric": (name := each.metric.partition(" ")[0]),
                "unit": unit_of(name),
                "variant": each.canary,
                "base": each.stable,
                "change": list(each.change),
                "is_relative": each.is_relative,
                "difference": difference(each),
                "design_effect": each.design_effect,
                "note": each.note if each.judgement in {"waiting", "no_data"} else "",
            }
            for each in contrast.readings
        ],
    }
