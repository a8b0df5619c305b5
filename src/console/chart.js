// One chart over time, as SVG: lines, steps, limits, marks of decisions, and a reading at the moment that is pointed at.

import { h, s } from "./dom.js";
import { moment } from "./words.js";

const HEIGHT = 150;
const MARGIN = { left: 52, right: 10, top: 12, bottom: 22 };
/** How far one press of an arrow key moves the reading, as a share of the chart. */
const KEY_STEP = 0.02;

/**
 * `lines`: { name, tone, points: [[time, value or null]], steps? }. `limits`: { from, to, value, tone, label }.
 * `marks`: { at, tone, sign, label, go }. `top` is the least height; `whole` says that nothing is above 1. `from` and `to` are milliseconds, as are all times.
 */
export function chart({ title, width, from, to, lines, limits, marks, format, top, whole, reading, read, tall }) {
  const frame = { width: Math.max(240, width), height: tall ?? HEIGHT, from, to: Math.max(to, from + 1000), top: ceiling(lines, limits, top, whole) };
  const at = reading === null ? null : Math.min(frame.to, Math.max(frame.from, reading));
  const spoken = lines.map((line) => `${line.name} ${format(valueAt(line, at ?? frame.to))}`).join(", ");
  return h("figure", { class: "chart", key: title },
    h("figcaption", null,
      h("strong", null, title),
      h("span", { class: "reading" },
        lines.map((line) => h("span", { class: `key ${line.tone}` }, `${line.name} ${format(valueAt(line, at ?? frame.to))}`)),
        at !== null && h("span", { class: "quiet" }, moment(new Date(at).toISOString())))),
    s("svg", {
      viewBox: `0 0 ${frame.width} ${frame.height}`, width: frame.width, height: frame.height, role: "img", tabindex: "0",
      "aria-label": `${title} over time: ${spoken}. Arrow keys move the reading.`,
      onpointermove: (event) => read(timeAt(frame, event)), onpointerleave: () => read(null),
      onblur: () => read(null), onkeydown: (event) => byKey(frame, at, event, read),
    },
      grid(frame, format),
      limits.map((limit) => drawnLimit(frame, limit)),
      marks.map((mark) => drawnMark(frame, mark)),
      lines.map((line) => s("path", { class: `series ${line.tone}`, d: path(frame, line) })),
      at !== null && s("line", { class: "cursor", x1: x(frame, at), x2: x(frame, at), y1: MARGIN.top, y2: frame.height - MARGIN.bottom })));
}

const inside = (frame) => frame.width - MARGIN.left - MARGIN.right;
const x = (frame, time) => (MARGIN.left + ((time - frame.from) / (frame.to - frame.from)) * inside(frame)).toFixed(1);
const y = (frame, value) => {
  const high = frame.height - MARGIN.top - MARGIN.bottom;
  return (MARGIN.top + high - (Math.min(value, frame.top) / frame.top) * high).toFixed(1);
};

function timeAt(frame, event) {
  const box = event.currentTarget.getBoundingClientRect();
  const place = ((event.clientX - box.left) / box.width) * frame.width - MARGIN.left;
  return frame.from + Math.min(1, Math.max(0, place / inside(frame))) * (frame.to - frame.from);
}

function byKey(frame, at, event, read) {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") read(null);
  if (direction === undefined) return;
  event.preventDefault();
  read(Math.min(frame.to, Math.max(frame.from, (at ?? frame.to) + direction * KEY_STEP * (frame.to - frame.from))));
}

// The value in force at a moment: of the last point that is not after it, unless that is long ago.
function valueAt(line, time) {
  const point = line.points.findLast(([at]) => at <= time);
  if (!point) return null;
  return line.steps || time - point[0] <= 3 * (line.step || Infinity) ? point[1] : null;
}

// A round number above everything that is shown.
function ceiling(lines, limits, least, whole) {
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
  const highest = Math.max(least, ...values, ...limits.map(({ value }) => value));
  if (whole && highest > 0.6) return 1;
  const unit = 10 ** Math.floor(Math.log10(highest));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * unit).find((round) => round >= highest * 1.02) ?? 12 * unit;
}

function grid(frame, format) {
  const levels = [0, 0.5, 1].map((part) => part * frame.top);
  const spanOfTimes = frame.to - frame.from;
  const times = frame.width > 600 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1];
  const anchor = (part) => (part === 0 ? "start" : part === 1 ? "end" : "middle");
  return s("g", { class: "grid", "aria-hidden": "true" },
    levels.map((level) => [
      s("line", { x1: MARGIN.left, x2: frame.width - MARGIN.right, y1: y(frame, level), y2: y(frame, level) }),
      s("text", { x: MARGIN.left - 6, y: Number(y(frame, level)) + 4, "text-anchor": "end" }, format(level)),
    ]),
    times.map((part) => s("text", { x: x(frame, frame.from + part * spanOfTimes), y: frame.height - 6, "text-anchor": anchor(part) },
      moment(new Date(frame.from + part * spanOfTimes).toISOString()).split(", ").at(-1))));
}

function drawnLimit(frame, { from, to, value, tone, label }) {
  const [left, right] = [Math.max(from, frame.from), Math.min(to, frame.to)];
  if (right <= left) return null;
  return s("line", { class: `limit ${tone}`, x1: x(frame, left), x2: x(frame, right), y1: y(frame, value), y2: y(frame, value) }, s("title", null, label));
}

function drawnMark(frame, { at, tone, sign, label, go }) {
  const place = x(frame, at);
  return s("g", { class: `mark ${tone}`, onclick: go },
    s("line", { x1: place, x2: place, y1: MARGIN.top, y2: frame.height - MARGIN.bottom }),
    s("text", { x: place, y: MARGIN.top - 2, "text-anchor": "middle" }, sign),
    s("title", null, label));
}

// Gaps stay gaps: where nothing was measured there is no line.
function path(frame, { points, steps, step }) {
  let text = "";
  let last = null;
  for (const [time, value] of points) {
    if (value === null || time > frame.to) {
      last = null;
      continue;
    }
    const to = `${x(frame, time)} ${y(frame, value)}`;
    if (last === null || (!steps && step && time - last[0] > 3 * step)) text += `M${to}l0.01 0`;
    else text += steps ? `H${x(frame, time)}V${y(frame, value)}` : `L${to}`;
    last = [time, value];
  }
  return steps && last !== null ? `${text}H${x(frame, frame.to)}` : text;
}
