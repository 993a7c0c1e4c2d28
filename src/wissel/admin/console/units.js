// How the values of a metric are written.

import { duration, share, short } from "./dom.js";

export function unitOf(measure) {
  if (measure === "error_rate" || measure === "refusal" || measure === "feedback") return (value) => share(value);
  if (measure.startsWith("latency") || measure.startsWith("ttft")) return duration;
  return short;
}

/** An interval in words, empty if neither end is known. */
export function rangeOf([low, high], format) {
  if (low === null && high === null) return "";
  if (low === null) return `at most ${format(high)}`;
  return high === null ? `at least ${format(low)}` : `${format(low)} to ${format(high)}`;
}
