/** Small charts as SVG: bars, stacked bars, columns, quartiles. Each has its figures as text, too. */

const SPACE = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words);
const count = (value) => value.toLocaleString("en");

function chart(height, label, ...children) {
  return svg("svg", { viewBox: `0 0 560 ${height}`, role: "img", "aria-label": label }, ...children);
}

/** One bar of parts of a whole: [{name, value, fill}]. */
export function stackedBar(parts, whole, height = 22) {
  const words = parts.map((part) => `${part.name} ${count(part.value)}`).join(", ");
  const made = svg("svg", {
    viewBox: `0 0 1200 ${height}`, role: "img", "aria-label": words, preserveAspectRatio: "none",
  });
  made.append(svg("rect", { class: "track", x: 0, y: 0, width: 1200, height, rx: 4 }));
  let x = 0;
  for (const part of parts) {
    const width = whole ? (1200 * Math.min(part.value, whole)) / whole : 0;
    made.append(svg("rect", { class: part.fill, x, y: 0, width, height }, svg("title", {}, `${part.name}: ${count(part.value)}`)));
    x += width;
  }
  return made;
}

/** Rows of stacked bars on one scale: [{name, parts: [{name, value, fill}], note}]. */
export function stackedRows(rows, label) {
  const most = Math.max(1, ...rows.map((row) => sum(row.parts)));
  const made = chart(rows.length * 30 + 4, label);
  rows.forEach((row, index) => {
    const y = index * 30 + 4;
    made.append(text(0, y + 15, row.name));
    let x = 74;
    for (const part of row.parts) {
      const width = (400 * part.value) / most;
      made.append(svg("rect", { class: part.fill, x, y, width, height: 20 }, svg("title", {}, `${row.name}, ${part.name}: ${count(part.value)}`)));
      x += width;
    }
    made.append(text(x + 8, y + 15, row.note, { class: "strong" }));
  });
  return made;
}

/** Rows of plain bars: [{name, value, note}]. */
export function bars(rows, label, fill = "bar-fill") {
  const most = Math.max(1, ...rows.map((row) => row.value));
  const made = chart(rows.length * 26 + 2, label);
  rows.forEach((row, index) => {
    const y = index * 26 + 2;
    const width = (320 * row.value) / most;
    made.append(
      text(0, y + 14, row.name),
      svg("rect", { class: fill, x: 140, y, width, height: 18, rx: 2 }),
      text(148 + width, y + 14, row.note ?? count(row.value), { class: "strong" }),
    );
  });
  return made;
}

/** Columns from left to right: [{name, value, fill}]; a few names stand below them. */
export function columns(values, label, { height = 130, every = 1 } = {}) {
  const most = Math.max(1, ...values.map((one) => one.value));
  const step = 540 / Math.max(values.length, 8);
  const made = chart(height + 34, label);
  made.append(svg("line", { class: "axis", x1: 0, y1: height + 14, x2: 560, y2: height + 14 }));
  values.forEach((one, index) => {
    const tall = (height * one.value) / most;
    const x = 10 + index * step;
    made.append(
      svg("rect", { class: one.fill ?? "bar-fill", x, y: height + 14 - tall, width: Math.max(2, step - 4), height: tall, rx: 2 },
        svg("title", {}, `${one.name}: ${count(one.value)}`)),
    );
    const middle = x + (step - 4) / 2;
    if (one.value && step > 26) made.append(text(middle, height + 9 - tall, count(one.value), { "text-anchor": "middle", class: "strong" }));
    if (index % every === 0) made.append(text(middle, height + 30, one.name, { "text-anchor": "middle" }));
  });
  return made;
}

/** Rows of median and quartiles on one axis: [{name, low, median, high, count}]. */
export function quartileRows(rows, label, { most, unit = "", digits = 1 }) {
  const top = most ?? roundUp(Math.max(...rows.map((row) => row.high ?? 0)));
  const at = (value) => 128 + (340 * Math.min(value, top)) / top;
  const made = chart(rows.length * 30 + 26, label);
  rows.forEach((row, index) => {
    const y = index * 30 + 14;
    made.append(text(0, y + 4, row.name));
    made.append(svg("line", { class: "axis", x1: 128, y1: y, x2: 468, y2: y }));
    if (row.median === null) return;
    const words = `${row.name}: median ${row.median.toFixed(digits)}${unit}, quartiles ${row.low.toFixed(digits)} and ${row.high.toFixed(digits)}, of ${count(row.count)}`;
    made.append(
      svg("line", { class: "whisker", x1: at(row.low) - 1, y1: y, x2: at(row.high) + 1, y2: y }, svg("title", {}, words)),
      svg("circle", { class: "middle", cx: at(row.median), cy: y, r: 5 }, svg("title", {}, words)),
      text(478, y + 4, `${row.median.toFixed(digits)}${unit}`, { class: "strong" }),
    );
  });
  const bottom = rows.length * 30 + 20;
  for (const share of [0, 0.5, 1]) {
    made.append(text(at(top * share), bottom, String(top * share), { "text-anchor": "middle" }));
  }
  return made;
}

export function legend(parts) {
  const list = document.createElement("ul");
  list.className = "legend";
  for (const part of parts) {
    const item = document.createElement("li");
    const value = document.createElement("b");
    value.textContent = count(part.value);
    item.append(svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: part.fill, width: 10, height: 10, rx: 2 })), value, ` ${part.name}`);
    list.append(item);
  }
  return list;
}

/** The next of 1, 2, 4, 6, 8, 10, 20, 40 …: an axis that ends there has a round middle. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= value) * power;
}

const sum = (parts) => parts.reduce((total, part) => total + part.value, 0);
