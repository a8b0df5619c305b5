// Segments as a table that sorts: what each met on both pools, how far apart they are, its ceiling and what lowered it.

import { h } from "./dom.js";
import { ofSegment } from "./evidence.js";
import { decisive, grounds, seen } from "./judged.js";
import { count, latency, moment, percent, rate } from "./words.js";

const SPANS = { run: "since the run began", stage: "since the stage began" };

// Title, what it is sorted by, how it is shown.
const columns = (status, spanName) => [
  { title: "Segment", by: (row) => row.segment, show: (row) => h("strong", null, row.segment) },
  { title: "Ceiling", by: (row) => row.max_weight ?? 2, show: (row) => (row.max_weight === null ? "none" : h("strong", null, percent(row.max_weight))) },
  { title: `${status.pools.canary} errors`, by: (row) => row.canary[spanName].error_rate, show: (row) => rate(row.canary[spanName].error_rate) },
  { title: `${status.pools.baseline} errors`, by: (row) => row.baseline[spanName].error_rate, show: (row) => rate(row.baseline[spanName].error_rate) },
  { title: "Failed requests", by: (row) => row.canary[spanName].errors, show: (row) => `${count(row.canary[spanName].errors)} of ${count(row.canary[spanName].requests)}` },
  spanName === "stage" && { title: `${status.pools.canary} p99`, by: (row) => row.canary.stage.p99_ms, show: (row) => latency(row.canary.stage.p99_ms) },
  spanName === "stage" && { title: `${status.pools.baseline} p99`, by: (row) => row.baseline.stage.p99_ms, show: (row) => latency(row.baseline.stage.p99_ms) },
  { title: "ln E of errors", by: (row) => ofSegment(status, row.segment)?.ln_e ?? null, show: (row) => evidence(ofSegment(status, row.segment)) },
].filter(Boolean);

const evidence = (one) => (one === null ? "–" : `${one.ln_e.toFixed(2)}${one.named ? ", named" : ""}`);

export function segments(state, view, act) {
  const { status } = state;
  if (status.segments.length === 0) {
    return h("p", { class: "quiet" }, status.plan?.segment ? "No segment was seen in this run." : "This rollout tells no segments apart.");
  }
  const shown = columns(status, view.span);
  const chosen = shown.find(({ title }) => title === view.sort.title) ?? shown[2];
  const rows = sorted(status.segments, chosen, view.sort.down);
  return [
    h("fieldset", { class: "choice", key: "span" }, h("legend", null, "Counted"), Object.entries(SPANS).map(([name, words]) =>
      h("label", null, h("input", { type: "radio", name: "span", checked: view.span === name, onchange: () => view.set({ span: name }) }), ` ${words}`))),
    h("table", { class: "cards segments", role: "table", key: "table" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, shown.map((column) => head(column, chosen, view)), h("th", { role: "columnheader", scope: "col" }, "Change"))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => [line(row, shown, act), why(row, state.events, status, shown.length + 1)]))),
  ];
}

function head(column, chosen, view) {
  const here = column === chosen;
  const order = view.sort.down ? "descending" : "ascending";
  const turn = () => view.set({ sort: { title: column.title, down: here ? !view.sort.down : true } });
  return h("th", { role: "columnheader", scope: "col", "aria-sort": here ? order : null },
    h("button", { type: "button", class: "sort", onclick: turn }, column.title, h("span", { "aria-hidden": "true" }, here ? (view.sort.down ? " ↓" : " ↑") : "")));
}

// What was not measured comes last, whichever way it is sorted; equal rows by name.
function sorted(rows, { by }, down) {
  const compare = (a, b) => {
    const [left, right] = [by(a), by(b)];
    if (left === null || right === null) return (left === null) - (right === null);
    const order = typeof left === "string" ? left.localeCompare(right) : left - right;
    return (down ? -order : order) || a.segment.localeCompare(b.segment);
  };
  return [...rows].sort(compare);
}

const line = (row, shown, act) =>
  h("tr", { role: "row", key: row.segment, class: row.lowered_by ? "alert" : null },
    shown.map(({ title, show }) => h("td", { role: "cell", "data-label": title }, h("div", null, show(row)))),
    h("td", { role: "cell", "data-label": "Change" }, h("div", null,
      act.button("ceiling", { segment: row.segment, ceiling: row.max_weight }),
      row.max_weight !== null && act.button("lift", { segment: row.segment, ceiling: row.max_weight }))));

// Why a segment was lowered, below its row: when, by how much, and how sure that was.
function why(row, events, status, width) {
  if (!row.lowered_by) return null;
  const event = events.findLast((one) => one.run === status.run && one.event === "segment_lowered" && one.segment === row.segment);
  const found = event && decisive(event)[0];
  return h("tr", { role: "row", key: `${row.segment} why`, class: "alert why" },
    h("td", { role: "cell", colspan: String(width) },
      event ? ["Lowered to 0% at ", h("time", { datetime: event.at, title: event.at }, moment(event.at)), " by "] : "Lowered by ",
      h("code", null, row.lowered_by),
      found && [": ", h("strong", null, seen(found)), h("span", { class: "quiet" }, ` · ${grounds(found)}`)]));
}
