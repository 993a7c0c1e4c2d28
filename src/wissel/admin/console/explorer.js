// What a request would meet, without sending it anywhere.

import { post } from "./api.js";
import { badge, byId, el, percent, short } from "./dom.js";

/** The body that a text stands for: a request is sent as it is, anything else is the prompt of one. */
export function bodyOf(text, model) {
  try {
    const body = JSON.parse(text);
    if (body !== null && typeof body === "object" && !Array.isArray(body)) return JSON.stringify(model ? { ...body, model } : body);
  } catch {
    // It is a prompt.
  }
  return JSON.stringify({ model, messages: [{ role: "user", content: text }] });
}

/** The path of the API that a body belongs to. */
function pathOf(body) {
  const asked = JSON.parse(body);
  if ("messages" in asked) return "/v1/chat/completions";
  if ("input" in asked) return "/v1/responses";
  return "prompt" in asked ? "/v1/completions" : "/v1/chat/completions";
}

export class Explorer {
  constructor() {
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    byId("ask-text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
    });
  }

  /** Offer the names and callers of the configuration, and keep what was chosen. */
  offer(config) {
    const offered = JSON.stringify([config.names, config.access?.principals]);
    if (offered === this.offered) return;
    this.offered = offered;
    byId("ask-models").replaceChildren(...config.names.map((name) => el("option", { value: name })));
    const model = byId("ask-model");
    model.placeholder = "as the request says";
    if (!model.value) model.value = config.entrypoints[0] ?? config.names[0] ?? "";
    const caller = byId("ask-caller");
    const chosen = caller.value;
    const principals = config.access?.principals ?? [];
    const nobody = el("option", { value: "" }, config.access ? "nobody (no key)" : "anyone");
    caller.replaceChildren(...principals.map((id) => el("option", { value: id }, id)), nobody);
    if (principals.includes(chosen)) caller.value = chosen;
  }

  async ask() {
    const text = byId("ask-text").value.trim();
    if (!text) return;
    const body = bodyOf(text, byId("ask-model").value.trim());
    const caller = byId("ask-caller").value;
    const query = new URLSearchParams({ path: pathOf(body), ...(caller ? { as: caller } : {}) });
    const answer = byId("answer");
    try {
      answer.replaceChildren(...told(await post(`/v1/route?${query}`, body)));
    } catch (problem) {
      answer.replaceChildren(el("p", { class: "problem" }, problem.message));
    }
  }
}

function told(decision) {
  const isDenied = "error" in decision;
  const head = isDenied
    ? el("p", {}, badge("bad", `denied ${decision.status}`), " ", decision.error.message)
    : el("p", {}, badge("good", "routed"), " to ", el("strong", {}, decision.model ?? decision.cluster));
  return [
    head,
    pathFrom(decision, isDenied),
    scoresOf(decision),
    factsOf(decision),
    el("details", {}, el("summary", {}, "As JSON"), el("pre", { tabindex: "0" }, JSON.stringify(decision, null, 2))),
  ].filter(Boolean);
}

function pathFrom(decision, isDenied) {
  const stops = [
    ["caller", decision.principal ?? "unknown"],
    decision.route ? ["route", decision.route] : null,
    isDenied ? ["refused", decision.error.code] : ["target", decision.target],
    decision.split ? ["variant", `${decision.variant}${decision.bucket === null ? "" : ` (bucket ${decision.bucket})`}`] : null,
    isDenied ? null : ["model", decision.model],
  ];
  return el("ol", { class: "path", "aria-label": "How it was decided" },
    stops.filter((stop) => stop?.[1]).map(([what, value]) => el("li", {}, el("small", {}, what), value)));
}

function scoresOf(decision) {
  const scores = Object.entries(decision.scores ?? {});
  if (!scores.length) return null;
  const { threshold } = decision.intent;
  const rows = scores.map(([name, score], index) => {
    const track = el("div", { class: "track", "aria-hidden": "true" }, percent(el("div", { class: "fill" }), "width", 100 * score));
    if (threshold !== null) track.append(percent(el("div", { class: "mark" }), "left", 100 * threshold));
    return el("div", { class: index ? "" : "best" }, el("span", {}, name), track, el("span", { class: "number" }, score.toFixed(3)));
  });
  const line = threshold === null ? "" : `, threshold ${short(threshold)}`;
  return el("div", {}, el("h4", {}, `Scores by ${decision.intent.classifier ?? "the classifier"}${line}`), el("div", { class: "scores" }, rows));
}

function factsOf(decision) {
  const { intent } = decision;
  const facts = [
    ["Intent", intent ? [intent.reason, intent.detail].filter(Boolean).join(": ") : null],
    ["Rules", decision.rules?.join(", ")],
    ["Shadow rules", decision.shadow_rules?.join(", ")],
    ["Split", decision.split ? `${decision.split}, ${decision.reason}` : null],
    ["Tier", decision.tier ? tierOf(decision.tier) : null],
    ["Key", decision.key ? `${decision.key.source} “${decision.key.value}”` : null],
    ["Plan", decision.plan?.length > 1 ? decision.plan.map((each) => each.model).join(", then ") : null],
    ["Left out", [...(decision.unable ?? []), ...(decision.left_out ?? [])].map((each) => `${each.model} (${each.why})`).join(", ")],
    ["Upstream", decision.upstream_model ? `${decision.upstream_model} at ${decision.cluster}` : null],
  ];
  return el("dl", { class: "facts" }, facts.filter((fact) => fact[1]).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function tierOf({ name, end, reason, win_rate: rate, threshold }) {
  const why = reason === "threshold" ? `win rate ${short(rate)}, ${end === "strong" ? "at least" : "below"} ${short(threshold)}` : reason.replace("_", " ");
  return `${name}: the ${end} end (${why})`;
}
