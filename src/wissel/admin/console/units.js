// How the values of a metric are written.

import { duration, share, short } from "./dom.js";

/** Of `unit`, which comes with each metric; of a Prometheus query nobody knows it. */
export function writerOf(unit) {
  return { share: (value) => share(value), s: duration }[unit] ?? short;
}

/** An interval in words, empty if neither end is known. */
export function rangeOf([low, high], format) {
  if (low === null && high === null) return "";
  if (low === null) return `at most ${format(high)}`;
  return high === null ? `at least ${format(low)}` : `${format(low)} to ${format(high)}`;
}
