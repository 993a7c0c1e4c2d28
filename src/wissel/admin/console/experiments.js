// Plain splits: what each variant came to, and how it differs from the first.

import { get } from "./api.js";
import { changeBar } from "./charts.js";
import { badge, byId, count, el, percent, share, table } from "./dom.js";
import { rangeOf, writerOf } from "./units.js";

const TONES = { higher: "info", lower: "info", "not shown": "", "too few requests": "" };

export class Experiments {
  async poll() {
    try {
      this.show((await get("/v1/experiments")).experiments);
    } catch (problem) {
      if (problem.code !== "store_away") throw problem;
    }
  }

  show(experiments) {
    byId("experiments").hidden = experiments.length === 0;
    byId("experiments-link").hidden = experiments.length === 0;
    const said = JSON.stringify(experiments);
    if (said === this.said) return;
    this.said = said;
    byId("experiment-cards").replaceChildren(...experiments.map(card));
  }
}

function card(it) {
  return el("article", { class: "card", "data-experiment": it.name, "aria-label": `Experiment ${it.name}` },
    el("div", { class: "rollout-top" },
      el("h3", {}, it.name),
      el("span", { class: "quiet" }, `${Object.keys(it.weights).join(" or ")}, revision ${it.revision}`),
      it.contrasts.some((each) => each.sample_ratio_mismatch) ? badge("bad", "shares are not as set") : null),
    el("div", { class: "experiment" },
      el("div", { class: "scroll" }, armsOf(it)),
      el("div", {}, it.contrasts.length
        ? it.contrasts.map((each) => contrastOf(each, it.base))
        : el("p", { class: "quiet" }, `Nothing to compare with ${it.base} yet.`))));
}

function armsOf(it) {
  const total = Object.values(it.weights).reduce((sum, each) => sum + each, 0);
  const served = Object.values(it.arms).reduce((sum, each) => sum + each.requests, 0);
  const rows = Object.entries(it.weights).map(([name, weight]) => {
    const arm = it.arms[name] ?? { requests: 0, errors: 0, keys: 0 };
    const set = total ? weight / total : 0;
    const actual = served ? arm.requests / served : null;
    const bar = el("span", { class: "share", role: "img", "aria-label": `${share(actual)} of the requests` }, percent(el("i", { class: "f0" }), "width", 100 * (actual ?? 0)));
    return [
      name,
      { text: share(set), number: true },
      { text: el("span", {}, share(actual), bar), number: true },
      { text: count(arm.requests), number: true },
      { text: arm.requests ? share(arm.errors / arm.requests) : "–", number: true },
      { text: count(arm.keys), number: true },
    ];
  });
  const heads = ["Variant", { number: "Set" }, { number: "Actual" }, { number: "Requests" }, { number: "Errors" }, { number: "Keys" }];
  return table(`Variants of ${it.name}`, heads, rows);
}

function contrastOf(contrast, base) {
  const known = contrast.metrics.filter((each) => each.variant !== null || each.base !== null);
  const unknown = contrast.metrics.filter((each) => !known.includes(each)).map((each) => each.metric.replaceAll("_", " "));
  const rows = known.map((each) => {
    const value = writerOf(each.unit);
    const change = each.is_relative ? (number) => share(number, 0) : value;
    return [
      each.metric.replaceAll("_", " "),
      { text: value(each.base), number: true },
      { text: value(each.variant), number: true },
      el("span", { class: "change" }, changeBar(each.change), rangeOf(each.change, change) || el("span", { class: "quiet" }, each.note || "not known yet")),
      badge(TONES[each.difference], each.difference),
    ];
  });
  const heads = ["Metric", { number: base }, { number: contrast.variant }, "Change", "Difference"];
  return el("div", { class: "contrast" },
    el("h4", {}, `${contrast.variant} against ${base}`),
    rows.length ? el("div", { class: "scroll" }, table(`${contrast.variant} against ${base}`, heads, rows)) : null,
    unknown.length ? el("p", { class: "quiet hint" }, `Not measured: ${unknown.join(", ")}.`) : null);
}
