// The configuration in use.

import { badge, byId, el, percent, table } from "./dom.js";

export class Configuration {
  show(config) {
    const said = JSON.stringify(config);
    if (said === this.said) return;
    this.said = said;
    byId("config-panel").replaceChildren(
      el("dl", { class: "facts" }, facts(config).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
      ...tables(config),
    );
  }
}

function facts(config) {
  const aliases = Object.entries(config.aliases).map(([name, target]) => `${name} → ${target}`);
  const state = config.problem
    ? el("span", {}, badge("bad", "the file as it is now is not in use"), el("br"), config.problem)
    : badge("good", "the file is in use");
  return [
    ["Revision", el("code", {}, config.revision)],
    ["State", state],
    ["Entrypoints", config.entrypoints.join(", ") || "none"],
    ["Aliases", aliases.join(", ") || "none"],
    ["Fallback", config.fallback ?? "none"],
    ["Access", config.access ? `${config.access.principals.length} callers, ${config.access.rules.length} rules` : "everyone may use everything"],
  ];
}

function tables(config) {
  const price = ({ price }) =>
    price ? [price.input, ...(price.cached_input === null ? [] : [price.cached_input]), price.output].join(" / ") : "–";
  return [
    part("Routes", ["Name", "Target", "For"], config.routes.map((each) => [each.name, each.target, each.description || "–"])),
    part("Models", ["Name", "Cluster", "Upstream", "APIs", { number: "USD per 1M in / cached / out" }],
      config.models.map((each) => [each.name, each.cluster, each.upstream_model, each.apis.join(", "), { text: price(each), number: true }])),
    part("Splits and rollouts, as served now", ["Name", "Key", "Weights"],
      config.splits.map((each) => [each.name, each.key.join(", "), weights(each.variants)])),
    part("Rules", ["Name", "Effect"],
      (config.access?.rules ?? []).map((each) => [each.id, each.shadow ? `${each.effect} (shadow)` : each.effect])),
  ].filter(Boolean);
}

function part(title, heads, rows) {
  if (!rows.length) return null;
  return el("details", {}, el("summary", {}, `${title} (${rows.length})`), el("div", { class: "scroll" }, table(title, heads, rows)));
}

function weights(variants) {
  const total = variants.reduce((sum, each) => sum + each.weight, 0);
  return el("div", {}, variants.map((each) => {
    const size = total ? (100 * each.weight) / total : 0;
    return el("div", {}, `${each.name} ${size.toFixed(size % 1 ? 1 : 0)} %`,
      el("span", { class: "share" }, percent(el("i", { class: "f0" }), "width", size)));
  }));
}
