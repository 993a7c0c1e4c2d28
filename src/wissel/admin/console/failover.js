// Failover: which models rest, and who was asked where the chosen one did not serve.

import { badge, byId, clock, count, el, table } from "./dom.js";

const WHY = { failing: "kept failing", busy: "its server asked for it" };

export class Failover {
  show({ at, attempts, resting }) {
    const isUsed = attempts.length + resting.length > 0;
    byId("failover").hidden = !isUsed;
    byId("failover-link").hidden = !isUsed;
    const said = JSON.stringify([attempts, resting.map((each) => [each, each.until > at])]);
    if (said === this.said) return;
    this.said = said;
    const rests = resting.length
      ? table("Models that rest", ["Model", "Rests, for it", "Until"], resting.map((each) => rest(each, at)))
      : el("p", { class: "quiet hint" }, "No model rests.");
    byId("resting-panel").replaceChildren(rests);
    const heads = ["Chosen", "Asked", { number: "Served" }, { number: "Failed" }, { number: "Rested" }];
    byId("attempts-panel").hidden = attempts.length === 0;
    byId("attempts-panel").replaceChildren(table("Attempts of this process, by the model that was chosen", heads, attempts.map(attempt)));
  }
}

function rest({ model, why, until }, at) {
  return [model, badge(why === "failing" ? "bad" : "warn", WHY[why]), until > at ? clock(until) : "it is tried by the next request"];
}

function attempt({ chosen, model, served, failed, rested }) {
  return [
    chosen, model,
    { text: count(served), number: true },
    { text: count(failed), number: true, tone: failed ? "bad" : "" },
    { text: count(rested), number: true },
  ];
}
