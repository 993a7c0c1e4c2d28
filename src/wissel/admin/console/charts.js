// Small charts over time, drawn anew at every poll.

import { svg } from "./dom.js";

const WIDTH = 200;
const HEIGHT = 110;
const LEFT = 42;
const RIGHT = 4;
const TOP = 8;
const BOTTOM = 18;

/** Numbers at which an axis is marked, from `low` to `high`. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

/** The stretches of a list whose members all hold. */
function runsOf(list, holds) {
  const runs = [[]];
  for (const each of list) {
    if (holds(each)) runs.at(-1).push(each);
    else runs.push([]);
  }
  return runs.filter((run) => run.length);
}

/** What was seen once is drawn as if it had held for a moment before. */
function lasting(pairs) {
  return pairs.length > 1 ? pairs : [[pairs[0][0] - 1, pairs[0][1]], pairs[0]];
}

class Plane {
  constructor(times, low, high, format, { width = WIDTH, height = HEIGHT } = {}) {
    this.width = width;
    this.height = height;
    this.since = times[0];
    this.until = Math.max(times.at(-1), this.since + 10);
    this.low = low;
    this.high = high > low ? high : low + 1;
    this.format = format;
  }

  x(time) {
    return LEFT + ((time - this.since) / (this.until - this.since)) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    const kept = Math.min(this.high, Math.max(this.low, value));
    return this.height - BOTTOM - ((kept - this.low) / (this.high - this.low)) * (this.height - TOP - BOTTOM);
  }

  points(pairs) {
    return pairs.map(([time, value]) => `${this.x(time).toFixed(1)},${this.y(value).toFixed(1)}`).join(" ");
  }

  /** A line with gaps where nothing is known. */
  line(pairs, classes) {
    return runsOf(pairs, (pair) => pair[1] !== null).map((run) =>
      svg("polyline", { points: this.points(lasting(run)), class: `line ${classes}` }));
  }

  area(uppers, lowers, classes) {
    return svg("polygon", { points: this.points([...lasting(uppers), ...lasting(lowers).toReversed()]), class: classes });
  }

  drawn(label, ...marks) {
    const right = this.width - RIGHT;
    const axis = ticks(this.low, this.high).map((at) => [
      svg("line", { class: at === 0 ? "zero" : "grid", x1: LEFT, x2: right, y1: this.y(at), y2: this.y(at) }),
      svg("text", { x: LEFT - 6, y: this.y(at) + 4, "text-anchor": "end" }, this.format(at)),
    ]);
    const seconds = Math.round(this.until - this.since);
    const ago = seconds >= 120 ? `${Math.round(seconds / 60)} min ago` : `${seconds} s ago`;
    return svg(
      "svg", { class: this.width > WIDTH ? "chart" : "chart small", viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": label },
      axis.flat(), marks.flat(3),
      svg("text", { x: LEFT, y: this.height - 3 }, ago),
      svg("text", { x: right, y: this.height - 3, "text-anchor": "end" }, "now"),
    );
  }
}

/** What lies beyond the limits, and the limits. */
function limits(plane, min, max) {
  const left = LEFT;
  const width = plane.width - LEFT - RIGHT;
  const line = (at) => svg("line", { class: "limit", x1: left, x2: left + width, y1: plane.y(at), y2: plane.y(at) });
  const zone = (from, to) =>
    svg("rect", { class: "beyond", x: left, width, y: plane.y(to), height: Math.max(0, plane.y(from) - plane.y(to)) });
  return [
    max === null ? [] : [zone(max, plane.high), line(max)],
    min === null ? [] : [zone(plane.low, min), line(min)],
  ];
}

/**
 * The interval of a change against its limit. A point is {at, low, high}, an end of which nothing is known is null;
 * the plane shows the limit with room around it, and cuts off what lies far beyond.
 */
export function intervalChart(points, { min, max }, format, label) {
  const bound = Math.max(Math.abs(min ?? 0), Math.abs(max ?? 0));
  const last = points.at(-1);
  const reach = Math.max(1.7 * bound, Math.abs(last.low ?? 0), Math.abs(last.high ?? 0)) * 1.15 || 1;
  const low = -reach;
  const high = reach;
  const plane = new Plane(points.map((each) => each.at), low, high, format);
  const known = runsOf(points, (each) => each.low !== null || each.high !== null);
  const nothing = svg("text", { class: "unknown", x: plane.x((plane.since + plane.until) / 2), y: plane.y(0) - 6 }, "no interval yet");
  return plane.drawn(
    label,
    limits(plane, min, max),
    known.length ? [] : nothing,
    known.map((run) => plane.area(run.map((each) => [each.at, each.high ?? high]), run.map((each) => [each.at, each.low ?? low]), "band")),
    plane.line(points.map((each) => [each.at, each.low]), "bound"),
    plane.line(points.map((each) => [each.at, each.high]), "bound"),
  );
}

/** Values over time: `series` is [{points: [[at, value]], classes}]. */
export function valueChart(series, { min, max }, format, label) {
  const values = series.flatMap((each) => each.points.map((point) => point[1])).filter((value) => value !== null);
  const high = Math.max(...values, 1.25 * (max ?? 0), 1.25 * (min ?? 0), 1e-9) * 1.05;
  const plane = new Plane(series[0].points.map((point) => point[0]), 0, high, format);
  return plane.drawn(label, limits(plane, min, max), series.map((each) => plane.line(each.points, each.classes)));
}

/** Shares of the traffic, as set and as it was. */
export function weightChart(points, label) {
  const plane = new Plane(points.map((each) => each.at), 0, 100, (value) => `${value} %`);
  const stairs = points.flatMap((each, index) => (index ? [[each.at, points[index - 1].set], [each.at, each.set]] : [[each.at, each.set]]));
  return plane.drawn(
    label,
    plane.line(points.map((each) => [each.at, each.actual]), "of-canary"),
    plane.line(stairs, "of-set"),
  );
}

/** Layers on top of each other: a point is {at, values}, and `classes` says how each layer is painted. */
export function stackChart(points, classes, label) {
  const tops = points.map((each) => each.values.reduce((sum, value) => sum + value, 0));
  const plane = new Plane(points.map((each) => each.at), 0, Math.max(...tops, 1) * 1.1, (value) => `${value}/s`, { width: 440, height: 190 });
  const floor = points.map(() => 0);
  const layers = classes.map((name, index) => {
    const lowers = points.map((each, at) => [each.at, floor[at]]);
    points.forEach((each, at) => { floor[at] += each.values[index]; });
    return plane.area(points.map((each, at) => [each.at, floor[at]]), lowers, name);
  });
  return plane.drawn(label, layers);
}

/** Where the interval of a change lies around zero, as a bar of a table. */
export function changeBar([low, high]) {
  const reach = Math.max(Math.abs(low ?? 0), Math.abs(high ?? 0)) * 1.25 || 1;
  const x = (value) => 50 + (50 * value) / reach;
  const from = x(low ?? -reach);
  const to = x(high ?? reach);
  const isKnown = low !== null || high !== null;
  return svg("svg", { class: "change-bar", viewBox: "0 0 100 12", "aria-hidden": "true" },
    isKnown ? svg("rect", { class: "f0", x: from, y: 3, width: Math.max(1, to - from), height: 6, rx: 2 }) : null,
    svg("line", { class: "of-set", x1: 50, x2: 50, y1: 0, y2: 12 }));
}
