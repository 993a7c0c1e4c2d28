// Limits: what each allows, and how many requests it refused.

import { byId, count, el, table } from "./dom.js";

const OTHERWISE = {
  local: "each replica counts its part",
  permit: "requests go on uncounted",
  forbid: "requests are refused",
};

/** What is worth a word besides `drawn` and `exceeded`. */
const UNUSUAL = {
  local: "counted in this process alone",
  unchecked: "refused, since nobody could count",
  uncounted: "let through uncounted",
};

export class Limits {
  show({ limits, on_store_failure: otherwise }, { denials, draws }) {
    byId("limits").hidden = limits.length === 0;
    byId("limits-link").hidden = limits.length === 0;
    const said = JSON.stringify([limits, otherwise, denials, draws]);
    if (said === this.said) return;
    this.said = said;
    const refused = (limit) => denials.filter((each) => each.limit === limit.id).reduce((sum, each) => sum + each.count, 0);
    const rows = limits.map((limit) => [
      limit.id, limit.per, allowanceOf(limit),
      { text: count(refused(limit)), number: true, tone: refused(limit) ? "bad" : "" },
    ]);
    const unusual = Object.entries(UNUSUAL).filter(([result]) => draws[result]).map(([result, words]) => `${count(draws[result])} ${words}`);
    byId("limits-panel").replaceChildren(
      table("Limits", ["Limit", "Per", "Allows", { number: "Refused" }], rows),
      el("p", { class: "quiet hint" }, [`Without the store ${OTHERWISE[otherwise]}.`, unusual.length ? `So far: ${unusual.join(", ")}.` : ""].filter(Boolean).join(" ")));
  }
}

function allowanceOf({ requests, tokens, usd, concurrent }) {
  return [
    requests && rate(requests, "requests"),
    tokens && rate(tokens, "tokens"),
    usd && rate(usd, "USD"),
    concurrent && `${concurrent} at once`,
  ].filter(Boolean).join(", ");
}

const SPANS = { 1: "a second", 60: "a minute", 3600: "an hour", 86400: "a day" };

const rate = ({ amount, seconds }, what) => `${amount.toLocaleString("en")} ${what} ${SPANS[seconds] ?? `in ${seconds} s`}`;
