// The latest decisions of the process, and apart from them its denials.

import { badge, byId, clock, duration, el, empty, table } from "./dom.js";

const SHOWN = 60;

export class Recent {
  constructor() {
    this.shown = "all";
    this.activity = null;
    for (const button of document.querySelectorAll("[data-shown]")) {
      button.addEventListener("click", () => {
        this.shown = button.dataset.shown;
        for (const each of document.querySelectorAll("[data-shown]")) each.setAttribute("aria-pressed", String(each === button));
        this.draw();
      });
    }
  }

  show(activity) {
    this.activity = activity;
    this.draw();
  }

  draw() {
    if (!this.activity) return;
    const { recent, denied } = this.activity;
    const all = this.shown === "denied" ? denied : [...recent, ...denied].sort((a, b) => b.at - a.at);
    const panel = byId("recent-panel");
    const first = all[0] ? `${this.shown} ${all.length} ${all[0].at}` : "";
    // Nothing new: whoever reads or selects a line is left alone.
    if (first && first === this.first) return;
    this.first = first;
    if (!all.length) {
      panel.replaceChildren(empty(this.shown === "denied" ? "No request was refused so far." : "No request so far."));
      return;
    }
    const heads = ["When", "Caller", "Route", "Outcome", "Why", { number: "Took" }];
    panel.replaceChildren(table("Latest decisions", heads, all.slice(0, SHOWN).map(row)));
  }
}

function row(each) {
  return [
    el("span", { class: "mono" }, clock(each.at)),
    each.principal ?? el("span", { class: "quiet" }, "unknown"),
    each.route ?? el("span", { class: "quiet" }, each.kind === "routed" ? "by name" : "–"),
    outcome(each),
    why(each),
    { text: duration(each.seconds), number: true },
  ];
}

function outcome(each) {
  if (each.kind === "denied") return badge("bad", `${each.status} ${each.error.code}`);
  if (each.kind === "routed") return each.target === each.model ? each.model : `${each.target} → ${each.model}`;
  return each.kind === "passed" ? `passed to ${each.cluster}` : "list of models";
}

function why(each) {
  const rules = each.rules?.length ? `rule ${each.rules.join(", ")}` : "";
  if (each.kind === "denied") return rules || each.error.message;
  if (each.split) return each.bucket === null ? each.reason.replace("_", " ") : `bucket ${each.bucket} by ${each.key}`;
  return each.intent ? [`intent ${each.intent.reason}`, each.intent.score?.toFixed(2)].filter(Boolean).join(" ") : rules || each.reason || "–";
}
