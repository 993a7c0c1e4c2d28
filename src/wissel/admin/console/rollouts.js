// Each rollout as a card that stays in place: polls change what it says, never where the focus is.

import { get, post } from "./api.js";
import { intervalChart, valueChart, weightChart } from "./charts.js";
import { confirmed } from "./dialogs.js";
import { announce, badge, byId, clock, count, duration, el, empty, percent, share, short, table } from "./dom.js";
import { rangeOf, writerOf } from "./units.js";

const KEPT = 600;
const PHASES = { progressing: "info", paused: "warn", healthy: "good", degraded: "bad" };
const JUDGEMENTS = { pass: "good", waiting: "info", fail: "bad", no_data: "warn", inconclusive: "warn" };
const PAUSED_BY = {
  step: "waits to be promoted",
  human: "paused by a person",
  inconclusive: "the evidence is inconclusive",
  failure: "the canary failed its analysis",
  lost: "its record was lost",
};

/** What is said in place of a verdict where nothing is looked at any more. */
const OVER = { healthy: "The rollout is over; nothing is looked at any more.", degraded: "The canary gets no traffic, so nothing is looked at." };

/** What people can do: when, and what happens then. */
const VERBS = [
  {
    verb: "promote", label: "Promote", when: (it) => it.phase === "progressing" || it.phase === "paused",
    text: (it) => `${it.name} leaves this step now and goes on to the next, whatever the evidence says.`,
  },
  {
    verb: "pause", label: "Pause", when: (it) => it.phase === "progressing" || it.paused_by === "step",
    text: (it) => `${it.name} stands still with ${it.set_weight} % on ${it.canary}. What speaks against the canary still takes it back.`,
  },
  {
    verb: "resume", label: "Resume", when: (it) => it.phase === "paused" && it.paused_by !== "step",
    text: (it) => `${it.name} goes on from where it stands.`,
  },
  {
    verb: "abort", label: "Abort", isDangerous: true, when: (it) => it.phase === "progressing" || it.phase === "paused",
    text: (it) => `All of ${it.name} goes back to ${it.stable} at once. It stays there until the rollout is retried.`,
  },
  {
    verb: "retry", label: "Retry", when: (it) => it.phase === "degraded",
    text: (it) => `${it.name} starts over at its first step, with nothing remembered against ${it.canary}.`,
  },
  {
    verb: "undo", label: "Undo promotion", isDangerous: true, when: (it) => it.phase === "healthy",
    text: (it) => `All of ${it.name} goes back from ${it.canary} to ${it.stable} at once.`,
  },
];

export class Rollouts {
  constructor() {
    this.cards = new Map();
  }

  show({ rollouts }, at) {
    const panel = byId("rollout-cards");
    if (!rollouts.length) {
      this.cards.clear();
      panel.replaceChildren(empty("The configuration has no rollouts. Add one under “rollouts:” to move traffic to a new model step by step."));
      return;
    }
    const names = new Set(rollouts.map((each) => each.name));
    for (const [name, card] of this.cards) {
      if (!names.has(name)) {
        card.root.remove();
        this.cards.delete(name);
      }
    }
    panel.querySelector(":scope > .empty")?.remove();
    for (const each of rollouts) {
      if (!this.cards.has(each.name)) {
        const card = new Card(each.name);
        this.cards.set(each.name, card);
        panel.append(card.root);
      }
      this.cards.get(each.name).update(each, at);
    }
  }

  /** The store is away: what was last known stays in sight, and nothing can be done to it. */
  away(message) {
    if (!this.cards.size) byId("rollout-cards").replaceChildren(empty(message));
    for (const card of this.cards.values()) card.away();
  }
}

class Card {
  constructor(name) {
    this.points = [];
    this.attempt = null;
    this.phase = null;
    this.title = el("h3", {}, name);
    this.arms = el("span", { class: "quiet" });
    this.state = el("span", {});
    this.buttons = VERBS.map((verb) => ({
      verb,
      button: el("button", {
        type: "button", class: verb.isDangerous ? "danger" : null, "data-verb": verb.verb, onclick: () => this.act(verb),
      }, verb.label, el("span", { class: "unseen" }, ` ${name}`)),
    }));
    this.problem = el("p", { class: "problem", role: "alert", hidden: true });
    this.steps = el("ol", { class: "steps", "aria-label": "Steps" });
    this.why = el("p", { class: "why" });
    this.left = el("div");
    this.charts = el("div", { class: "charts" });
    this.trail = el("div", { class: "scroll" });
    this.history = el("details", { ontoggle: () => this.tell() }, el("summary", {}, "History"), this.trail);
    this.root = el(
      "article", { class: "card", "data-rollout": name, "aria-label": `Rollout ${name}` },
      el("div", { class: "rollout-top" }, this.title, this.arms, this.state,
        el("div", { class: "buttons" }, this.buttons.map((each) => each.button))),
      this.problem, this.steps, this.why,
      el("div", { class: "columns" }, this.left, this.charts),
      this.history,
    );
  }

  update(it, at) {
    if (this.attempt !== it.attempt) this.points = [];
    if (this.phase !== null && this.phase !== it.phase) announce(`Rollout ${it.name} is ${it.phase}. ${it.reason}`);
    const hasMoved = this.phase !== it.phase || this.now?.step !== it.step;
    Object.assign(this, { attempt: it.attempt, phase: it.phase, now: it });
    this.points.push({ at, set: it.set_weight, actual: it.actual_weight, metrics: new Map(it.metrics.map((each) => [each.metric, each])) });
    if (this.points.length > KEPT) this.points.shift();

    this.root.dataset.phase = it.phase;
    this.arms.textContent = `${it.stable} → ${it.canary}, revision ${it.revision}`;
    this.state.replaceChildren(badge(PHASES[it.phase], it.phase));
    for (const { verb, button } of this.buttons) {
      button.hidden = !verb.when(it);
      button.disabled = this.busy === true;
    }
    this.drawSteps(it);
    const halted = it.paused_by ? PAUSED_BY[it.paused_by] : "";
    this.why.replaceChildren(el("span", {}, [halted, it.reason].filter(Boolean).join(": ") || "Nothing has happened yet."));
    this.drawWeight(it);
    this.drawCharts(it);
    if (hasMoved) this.tell();
  }

  away() {
    this.state.replaceChildren(badge("warn", "not known"));
    for (const { button } of this.buttons) button.disabled = true;
  }

  drawSteps(it) {
    const isOver = it.phase === "degraded";
    this.steps.className = isOver ? "steps over" : "steps";
    const done = it.phase === "healthy" ? it.steps.length + 1 : it.step;
    const items = [...it.steps.map(wordsOf), it.phase === "healthy" ? "promoted" : "promote"];
    this.steps.replaceChildren(...items.map((words, index) => {
      const isNow = index === done && !isOver;
      const kind = index < done ? "done" : index === done ? "now" : "";
      const said = index < done ? "done: " : "";
      return el("li", { class: kind, "aria-current": isNow ? "step" : null }, el("span", { class: "unseen" }, said), words);
    }));
  }

  drawWeight(it) {
    const actual = it.actual_weight;
    const fill = percent(el("div", { class: "fill" }), "width", actual ?? 0);
    const mark = percent(el("div", { class: "mark" }), "left", it.set_weight);
    const rows = Object.entries(it.arms).map(([name, arm]) => [
      name,
      { text: count(arm.requests), number: true },
      { text: arm.requests ? share(arm.errors / arm.requests) : "–", number: true },
      { text: count(arm.keys), number: true },
    ]);
    const verdict = it.verdict
      ? el("p", {}, badge(JUDGEMENTS[it.verdict], it.verdict.replace("_", " ")), " ", it.verdict_reason ?? "")
      : el("p", { class: "quiet" }, OVER[it.phase] ?? "No verdict yet.");
    this.left.replaceChildren(
      el("div", { class: "weight" },
        el("h4", {}, `Traffic on ${it.canary}`),
        el("div", { class: "track", role: "img", "aria-label": `set ${it.set_weight} percent, actual ${actual ?? "not known"} percent` }, fill, mark),
        el("div", { class: "row" },
          el("span", {}, "set ", el("strong", {}, `${it.set_weight} %`)),
          el("span", { title: "of this step's requests" }, "actual ", el("strong", {}, actual === null ? "–" : `${short(actual)} %`)))),
      el("h4", {}, "Verdict"), verdict,
      rows.length
        ? table("Requests of this step by arm", ["This step", { number: "Requests" }, { number: "Errors" }, { number: "Keys" }], rows)
        : el("p", { class: "quiet" }, "No requests in this step yet."),
      it.metrics.length && it.callers < it.callers_needed
        ? el("p", { class: "quiet" }, `${it.callers ? `Only ${count(it.callers)} callers matter` : "No caller was seen"} here: below ${it.callers_needed} one of them may be all the evidence.`)
        : "",
      it.mixed ? el("p", { class: "quiet" }, `${count(it.mixed)} left out: another arm served them than their key was dealt to.`) : "",
    );
  }

  drawCharts(it) {
    const last = this.points.at(-1);
    const figures = [
      el("figure", {},
        el("figcaption", {}, "Weight"),
        el("p", { class: "facts-of" },
          el("span", {}, key("set", "--text"), ` ${last.set} %`),
          el("span", {}, key("actual", "--s1"), last.actual === null ? " –" : ` ${short(last.actual)} %`)),
        weightChart(this.points, `Weight of the canary: set ${last.set} percent, actual ${last.actual ?? "not known"}`)),
    ];
    for (const name of this.metricNames()) figures.push(this.metricFigure(name));
    this.charts.replaceChildren(...figures);
  }

  /** Those of the latest look that could measure. */
  metricNames() {
    return [...(this.points.findLast((each) => each.metrics.size)?.metrics.keys() ?? [])];
  }

  metricFigure(name) {
    const seen = this.points.filter((each) => each.metrics.has(name)).map((each) => ({ at: each.at, ...each.metrics.get(name) }));
    const now = seen.at(-1);
    const { limit } = now;
    const value = writerOf(limit.unit);
    const tone = JUDGEMENTS[now.judgement];
    // What is over, or could not be measured at the latest look, is shown without a judgement.
    const isCurrent = this.points.at(-1).metrics.has(name);
    const head = el("figcaption", {}, titleOf(now), isCurrent ? badge(tone, now.judgement.replace("_", " ")) : null);
    const values = now.stable === null ? `canary ${value(now.canary)}` : `canary ${value(now.canary)}, stable ${value(now.stable)}`;
    if (limit.of === "canary") {
      const series = [{ points: seen.map((each) => [each.at, each.canary]), classes: "of-canary" }];
      if (seen.some((each) => each.stable !== null)) series.push({ points: seen.map((each) => [each.at, each.stable]), classes: "of-stable" });
      return el("figure", {}, head, factsOf(now.canary === null ? now.note || "not measured yet" : values, boundOf(limit, value)),
        valueChart(series, limit, value, `${now.metric}: ${values}`));
    }
    const change = now.is_relative ? (each) => share(each, 0) : value;
    const range = rangeOf(now.change, change);
    const points = seen.map((each) => ({ at: each.at, low: each.change[0], high: each.change[1] }));
    const facts = range ? factsOf(values, `${range}, ${boundOf(limit, change)}`) : factsOf(now.note || values, boundOf(limit, change));
    return el("figure", {}, head, facts, intervalChart(points, limit, change, `${now.metric}: ${values}; ${range || "change not known"}`));
  }

  async tell() {
    if (!this.history.open) return;
    try {
      const { history } = await get(`/v1/rollouts/${encodeURIComponent(this.now.name)}/history`);
      const rows = history.map((each) => [clock(each.at), each.kind.replace("_", " "), each.by, each.reason || "–"]);
      this.trail.replaceChildren(rows.length ? table("History", ["When", "What", "By", "Why"], rows) : empty("Nothing has happened yet."));
    } catch (problem) {
      this.trail.replaceChildren(empty(problem.message));
    }
  }

  async act(verb) {
    const it = this.now;
    if (!(await confirmed(`${verb.label} ${it.name}?`, verb.text(it), verb.label, verb.isDangerous))) return;
    this.busy = true;
    this.problem.hidden = true;
    for (const { button } of this.buttons) button.disabled = true;
    try {
      const told = await post(`/v1/rollouts/${encodeURIComponent(it.name)}/${verb.verb}`, JSON.stringify({ by: "console" }));
      this.busy = false;
      this.update(told, Date.now() / 1000);
      // The button that had the focus may be gone.
      if (this.buttons.every(({ button }) => button !== document.activeElement || button.hidden)) {
        this.buttons.find(({ button }) => !button.hidden)?.button.focus();
      }
    } catch (problem) {
      this.busy = false;
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
      for (const { button } of this.buttons) button.disabled = false;
    }
  }
}

function wordsOf(step) {
  if ("set_weight" in step) return `${step.set_weight} %`;
  if ("pause" in step) return step.pause.duration === undefined ? "pause until promoted" : `pause ${duration(step.pause.duration)}`;
  const { duration: seconds, proof } = step.analysis;
  return ["analysis", seconds ? duration(seconds) : "", proof ? "with proof" : ""].filter(Boolean).join(" ");
}

function titleOf(reading) {
  const name = reading.limit.measure.replaceAll("_", " ");
  const kind = reading.metric.endsWith(" guard") ? " · guard" : reading.limit.of === "change" ? " · change" : " · limit";
  return `${name}${kind}${reading.dry_run ? " (dry run)" : ""}`;
}

function boundOf({ min, max }, format) {
  return [min === null ? "" : `min ${format(min)}`, max === null ? "" : `max ${format(max)}`].filter(Boolean).join(", ");
}

function factsOf(...lines) {
  return el("p", { class: "facts-of" }, lines.map((line) => el("span", { title: line }, line)));
}

function key(text, colour) {
  const mark = el("span", { class: "key" });
  mark.style.borderColor = `var(${colour})`;
  return el("span", {}, mark, text);
}
