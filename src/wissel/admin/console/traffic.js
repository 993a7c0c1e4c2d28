// Where requests go: the sums of the process become rates between two polls.

import { stackChart } from "./charts.js";
import { byId, count, duration, el, empty, percent, share, short, table } from "./dom.js";

const WINDOW = 10;
const KEPT = 150;
const COLOURS = 7;

/** Colours stay with their models for as long as the page is open. */
const colours = new Map();

function colour(model) {
  if (!colours.has(model)) colours.set(model, `f${Math.min(colours.size, COLOURS)}`);
  return colours.get(model);
}

const nameOf = (way) => JSON.stringify([way.route, way.model, way.variant]);

const COUNTED = ["decided", "ended", "errors", "refused", "seconds", "input_tokens", "output_tokens", "cost_usd"];

export class Traffic {
  constructor() {
    this.looks = [];
    this.points = [];
  }

  show(activity) {
    const look = {
      at: activity.at,
      ways: new Map(activity.traffic.map((way) => [nameOf(way), way])),
      denied: activity.denials.reduce((sum, each) => sum + each.count, 0),
    };
    const last = this.looks.at(-1);
    // Sums that shrink are those of another process: a restart, or another worker.
    if (last && [...last.ways].some(([name, way]) => (look.ways.get(name)?.decided ?? 0) < way.decided)) {
      this.looks = [];
      this.points = [];
    }
    this.looks.push(look);
    while (this.looks.length > 2 && this.looks[1].at <= look.at - WINDOW) this.looks.shift();
    const rows = this.rates(this.looks[0], look);
    const denied = this.perSecond(this.looks[0].denied, look.denied, this.looks[0], look);
    this.glance(rows, denied);
    if (this.looks.length > 1) this.keep(rows, look.at);
    this.draw(rows, activity);
  }

  perSecond(before, after, from, to) {
    return to.at > from.at ? (after - before) / (to.at - from.at) : 0;
  }

  rates(from, to) {
    return [...to.ways].map(([name, way]) => {
      const before = from.ways.get(name);
      const grown = Object.fromEntries(COUNTED.map((each) => [each, way[each] - (before?.[each] ?? 0)]));
      return { way, grown, rate: this.perSecond(0, grown.decided, from, to) };
    });
  }

  glance(rows, denied) {
    const sum = (name) => rows.reduce((total, each) => total + each.grown[name], 0);
    const [ended, errors, seconds] = [sum("ended"), sum("errors"), sum("seconds")];
    const span = this.looks.at(-1).at - this.looks[0].at;
    const tile = (title, value, unit, tone = "") =>
      el("dl", { class: `tile ${tone}` }, el("dt", {}, title), el("dd", {}, value, el("small", {}, unit)));
    byId("tiles").replaceChildren(
      tile("Requests", short(rows.reduce((total, each) => total + each.rate, 0)), "per s"),
      tile("Errors", ended ? share(errors / ended) : "–", "of answers", ended && errors / ended > 0.05 ? "bad" : ""),
      tile("Answer time", ended ? duration(seconds / ended) : "–", "mean"),
      tile("Denied", short(denied), "per s"),
      tile("Tokens", span ? short((sum("input_tokens") + sum("output_tokens")) / span) : "–", "per s"),
    );
  }

  keep(rows, at) {
    const values = new Map();
    for (const { way, rate } of rows) values.set(way.model, (values.get(way.model) ?? 0) + rate);
    this.points.push({ at, values });
    if (this.points.length > KEPT) this.points.shift();
  }

  draw(rows, activity) {
    const panel = byId("traffic-panel");
    if (!rows.length) {
      const denied = activity.denials.length ? " Every request so far was refused: see the denials below." : "";
      panel.replaceChildren(empty(`No request has been routed since this process began.${denied}`));
      return;
    }
    const total = rows.reduce((sum, each) => sum + each.rate, 0);
    const models = [...new Set(rows.map((each) => each.way.model))];
    models.forEach(colour);
    rows.sort((a, b) => (a.way.route ?? "").localeCompare(b.way.route ?? "") || b.way.decided - a.way.decided);
    const points = this.points.map(({ at, values }) => ({ at, values: models.map((model) => values.get(model) ?? 0) }));
    const now = models.map((model, index) => `${model} ${short(points.at(-1)?.values[index])}`).join(", ");
    const chart = points.length ? stackChart(points, models.map(colour), `Requests per second now: ${now}`) : empty("Rates come with the next look.");
    const legend = el("p", { class: "legend" }, models.map((model) =>
      el("span", {}, el("span", { class: `swatch ${colour(model)}` }), model || "others")));
    const heads = ["Route", "Model", { number: "per s" }, "Share", { number: "Errors" }, { number: "Mean" }, { number: "All" }];
    const lines = rows.map(({ way, grown, rate }) => {
      const bad = grown.ended && grown.errors / grown.ended > 0.05;
      const bar = el("span", { class: "share" }, percent(el("i", { class: colour(way.model) }), "width", total ? (100 * rate) / total : 0));
      const model = way.variant && way.variant !== way.model ? `${way.model} (${way.variant})` : way.model;
      return [
        way.route ?? el("span", { class: "quiet" }, "by name"),
        el("span", {}, el("span", { class: `swatch ${colour(way.model)}` }), model || "others"),
        { text: short(rate), number: true },
        bar,
        { text: grown.ended ? share(grown.errors / grown.ended) : "–", number: true, tone: bad ? "bad" : "" },
        { text: grown.ended ? duration(grown.seconds / grown.ended) : "–", number: true },
        { text: count(way.decided), number: true },
      ];
    });
    const refusing = rows.filter((each) => each.grown.refused).map((each) => each.way.model);
    panel.replaceChildren(
      refusing.length
        ? el("p", { class: "problem", role: "alert" }, `Refused for our credential, or for our account with its provider: ${[...new Set(refusing)].join(", ")}.`)
        : "",
      el("div", { class: "traffic" },
        el("figure", {},
          el("h4", {}, "Requests by model"),
          chart, legend),
        el("div", { class: "scroll" }, table("Traffic by route and model", heads, lines))),
    );
  }
}
