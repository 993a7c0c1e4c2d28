// Tiers: the share of requests that the strong end is to have, and has had.

import { byId, count, el, percent, share, short, table } from "./dom.js";

export class Tiers {
  show({ tiers }) {
    byId("tiers").hidden = tiers.length === 0;
    byId("tiers-link").hidden = tiers.length === 0;
    const said = JSON.stringify(tiers);
    if (said === this.said) return;
    this.said = said;
    const heads = ["Tier", "Strong", "Weak", { number: "Budget" }, "Strong share so far", { number: "Threshold" }, { number: "Requests" }];
    byId("tiers-panel").replaceChildren(table("Tiers", heads, tiers.map(row)));
  }
}

function row(tier) {
  const budget = tier.share === null ? "fixed threshold" : share(tier.share);
  return [
    tier.name, tier.strong, tier.weak,
    { text: budget, number: true },
    gauge(tier),
    { text: short(tier.threshold), number: true },
    { text: count(tier.requests), number: true },
  ];
}

/** What was had as a bar, what may be had as a mark. */
function gauge({ realised, share: budget }) {
  const label = budget === null ? `${share(realised)} so far` : `${share(realised)} so far of a budget of ${share(budget)}`;
  const track = el("span", { class: "gauge", role: "img", "aria-label": label }, percent(el("i", { class: "f0" }), "width", 100 * (realised ?? 0)));
  if (budget !== null) track.append(percent(el("b"), "left", 100 * budget));
  return el("span", { class: "gauged" }, track, share(realised));
}
