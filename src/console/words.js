// Figures, spans and moments in words. Says nothing that was not given to it; what was not measured is a dash.

export const DASH = "–";

const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** A weight: to the millionth, without closing zeros. */
export const percent = (share) => (share === null || share === undefined ? DASH : `${trimmed((share * 100).toFixed(4))}%`);

/** A rate: two places, more where it is small. */
export function rate(share) {
  if (share === null || share === undefined) return DASH;
  if (typeof share === "string") return share === "inf" ? "∞" : "−∞";
  const points = share * 100;
  const places = points !== 0 && Math.abs(points) < 0.01 ? 4 : 2;
  return `${points.toFixed(places)}%`;
}

export function latency(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms >= 1000) return `${trimmed((ms / 1000).toFixed(2))} s`;
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

export const count = (number) => (number === null || number === undefined ? DASH : Math.round(number).toLocaleString("en-US"));

export const perSecond = (number) => (number === null || number === undefined ? DASH : `${number < 10 ? number.toFixed(1) : count(number)}/s`);

/** A figure in the unit of an evaluation. */
export function figure(value, unit) {
  if (value === null || value === undefined) return DASH;
  if (typeof value === "string") return value === "inf" ? "∞" : "−∞";
  switch (unit) {
    case "share":
      return rate(value);
    case "ms":
      return latency(value);
    case "per_second":
      return perSecond(value);
    case "count":
      return count(value);
    default:
      return trimmed(value.toFixed(2));
  }
}

const SIGNS = { "<": "<", "<=": "≤", ">": ">", ">=": "≥", "==": "=" };
export const sign = (op) => SIGNS[op] ?? op;

/** A span: its two largest units. */
export function span(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${trimmed((ms / 1000).toFixed(ms < 10_000 ? 1 : 0))} s`;
  const units = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];
  const first = units.findIndex(([, size]) => ms >= size);
  const [large, next] = [units[first], units[first + 1]];
  const whole = Math.floor(ms / large[1]);
  const rest = Math.floor((ms % large[1]) / next[1]);
  return rest === 0 ? `${whole} ${large[0]}` : `${whole} ${large[0]} ${rest} ${next[0]}`;
}

const UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001 };

/** `1h30m` as a plan writes it, in milliseconds. */
export function plannedSpan(text) {
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/([\d.]+)(ms|us|[dhms])/g)) sum += Number(number) * UNITS[unit];
  return sum;
}

/** `10%` or `0.1` as a plan writes it, as a share. */
export const plannedShare = (text) => (text.endsWith("%") ? Number(text.slice(0, -1)) / 100 : Number(text));

/** How long a condition must stay true, from its text; 0 where it says nothing. */
export function patience(condition) {
  const found = / for (\S+)/.exec(condition);
  return found ? plannedSpan(found[1]) : 0;
}

const sameDay = (a, b) => a.toDateString() === b.toDateString();
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };

/** A moment on this browser's clock; with its day where that is not today's. */
export function moment(text) {
  if (!text) return DASH;
  const at = new Date(text);
  const clock = at.toLocaleTimeString("en-GB", CLOCK);
  if (sameDay(at, new Date())) return clock;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
}

/** A word of the API for people: `awaiting_approval` is "awaiting approval". */
export const plain = (word) => word.replaceAll("_", " ");

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
