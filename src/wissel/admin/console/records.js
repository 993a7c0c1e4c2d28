// Experiments and limits: shown where the API has them, one card for each.

import { get } from "./api.js";
import { badge, byId, el, empty, short, table } from "./dom.js";

const TONES = { running: "info", progressing: "info", paused: "warn", finished: "good", healthy: "good", degraded: "bad", stopped: "bad" };

export class Records {
  /** `path` answers with a list under `name`, or with 404 where there is no such thing. */
  constructor(path, name, panel) {
    Object.assign(this, { path, name, panel, isThere: true });
  }

  async poll() {
    if (!this.isThere) return;
    try {
      const told = await get(this.path);
      this.show(told[this.name] ?? []);
    } catch (problem) {
      if (problem.status === 404) this.isThere = false;
      else if (problem.code !== "store_away") throw problem;
    }
  }

  show(records) {
    byId(this.name).hidden = false;
    byId(`${this.name}-link`).hidden = false;
    const said = JSON.stringify(records);
    if (said === this.said) return;
    this.said = said;
    byId(this.panel).replaceChildren(...(records.length ? records.map(card) : [empty(`The configuration has no ${this.name}.`)]));
  }
}

function card(record) {
  const { name, phase, ...others } = record;
  const facts = Object.entries(others).filter(([, value]) => value !== null && typeof value !== "object");
  const groups = Object.entries(others).map(([title, value]) => [title, rowsOf(value)]).filter(([, rows]) => rows.length);
  return el("article", { class: "card" },
    el("div", { class: "rollout-top" }, el("h3", {}, name ?? ""), phase ? badge(TONES[phase] ?? "", phase) : null),
    el("dl", { class: "facts" }, facts.map(([title, value]) => [el("dt", {}, words(title)), el("dd", {}, plain(value))])),
    groups.map(([title, rows]) => part(words(title), rows)));
}

/** A list or a mapping of things as rows. */
function rowsOf(value) {
  if (Array.isArray(value)) return value.filter((each) => each !== null && typeof each === "object" && !Array.isArray(each));
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value)
    .filter(([, each]) => each !== null && typeof each === "object" && !Array.isArray(each))
    .map(([name, each]) => ({ name, ...each }));
}

function part(title, rows) {
  const heads = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const lines = rows.map((row) => heads.map((head) => ({ text: plain(row[head]), number: typeof row[head] === "number" })));
  const titles = heads.map((head) => (rows.every((row) => typeof row[head] === "number") ? { number: words(head) } : words(head)));
  return el("div", { class: "scroll" }, el("h4", {}, title), table(title, titles, lines));
}

const words = (name) => name.replaceAll("_", " ");

function plain(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map(plain).join(" … ");
  if (typeof value === "object") return Object.entries(value).map(([name, each]) => `${words(name)} ${plain(each)}`).join(", ");
  return typeof value === "number" ? short(value) : String(value);
}
