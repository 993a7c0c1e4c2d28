// Elements without markup: text stays text, whatever it says.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are null or false are left out, children may be texts. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Puts a length in percent where style attributes are forbidden, as they are here. */
export function percent(element, property, value) {
  element.style[property] = `${Math.max(0, Math.min(100, value))}%`;
  return element;
}

/** A table; a cell is a text, a node, or {text, number, tone}. */
export function table(caption, heads, rows) {
  const cell = (each) => {
    const plain = each === null || each === undefined || typeof each !== "object" || each instanceof Node;
    const { text, number, tone } = plain ? { text: each } : each;
    const classes = [number && "number", tone].filter(Boolean).join(" ");
    return el("td", { class: classes || null }, text ?? "–");
  };
  const head = (each) =>
    typeof each === "string" ? el("th", { scope: "col" }, each) : el("th", { scope: "col", class: "number" }, each.number);
  return el(
    "table", {},
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, heads.map(head))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))),
  );
}

export const badge = (tone, text) => el("span", { class: `badge ${tone}` }, text);

export const empty = (text) => el("p", { class: "empty" }, text);

/** Says it to who cannot see it. */
export function announce(text) {
  byId("live").textContent = text;
}

export function count(value) {
  return Math.round(value).toLocaleString("en");
}

/** Three digits that matter. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return count(value);
  return String(Number(value.toPrecision(size >= 100 ? 3 : 2)));
}

export function share(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  return `${(100 * value).toFixed(digits).replace(/\.0+$/, "")} %`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size < 1) return `${short(1000 * seconds)} ms`;
  if (size < 120) return `${short(seconds)} s`;
  return size < 7200 ? `${short(seconds / 60)} min` : `${short(seconds / 3600)} h`;
}

export function clock(at) {
  return new Date(1000 * at).toLocaleTimeString("en-GB");
}
