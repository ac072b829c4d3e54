// plot.js: small charts in SVG: lines over a number, and histograms. Colours come from the style sheet
// (.series-0 and so on); the label says in words what the chart shows.
import { element } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 150;
const MARGIN = { left: 36, right: 8, top: 8, bottom: 20 };
const LETTER = 6; // pixels that one takes, about

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Maps [low, high] to [from, to]. */
function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** A few round numbers between two. */
function ticks(low, high) {
  const raw = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((n) => n * power >= raw) ?? 10);
  const out = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) out.push(at);
  return out;
}

const tickText = (value) => (Math.abs(value) >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3))));

function frame(x, y, xRange, yRange, { xLabel, width }) {
  const { left, right } = MARGIN;
  const out = [];
  const room = width - right - (xLabel.length + 2) * LETTER; // for ticks beside the axis's name
  for (const at of ticks(...yRange)) {
    out.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) }));
    out.push(svg("text", { class: "tick", x: left - 5, y: y(at) + 3, "text-anchor": "end" }, tickText(at)));
  }
  for (const at of ticks(...xRange).filter((tick) => x(tick) < room)) {
    out.push(svg("text", { class: "tick", x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, tickText(at)));
  }
  out.push(svg("text", { class: "tick", x: width - right, y: HEIGHT - 6, "text-anchor": "end" }, xLabel));
  return out;
}

function legend(series) {
  const items = series.map(({ name, values, format }, i) => {
    const last = values.at(-1);
    const shown = format && Number.isFinite(last) ? ` (${format(last)})` : "";
    return element("span", { className: `key series-${i}` }, `${name}${shown}`);
  });
  return element("div", { className: "keys-of-chart", "aria-hidden": "true" }, ...items);
}

function chart({ label, series, width }, ...parts) {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" },
    ...parts);
  return element("figure", { className: "plot" }, drawing, legend(series));
}

/**
 * Lines over x. A series with `own` is scaled by itself and has no axis.
 * @param {{label: string, width: number, x: number[], xLabel: string, zero?: boolean,
 *   mark?: {at: number, name: string},
 *   series: {name: string, values: number[], own?: boolean, format?: (value: number) => string}[]}} spec
 */
export function lineChart(spec) {
  const { width, x: xs, series, mark, zero = true } = spec;
  const shared = series.filter((s) => !s.own).flatMap((s) => s.values).filter(Number.isFinite);
  const yRange = [zero ? 0 : Math.min(...shared), Math.max(...shared)];
  const xRange = [Math.min(0, ...xs), Math.max(...xs)];
  const x = scale(...xRange, MARGIN.left, width - MARGIN.right);
  const y = scale(...yRange, HEIGHT - MARGIN.bottom, MARGIN.top);
  const lines = series.map(({ values, own }, i) => {
    const high = Math.max(...values.filter(Number.isFinite));
    const place = own ? scale(0, high * 1.25, HEIGHT - MARGIN.bottom, MARGIN.top) : y;
    const points = values.map((v, k) => [x(xs[k]), place(v)]).filter(([, at]) => Number.isFinite(at));
    const path = points.map((p) => p.map((n) => n.toFixed(1))).join(" ");
    return svg("polyline", { class: `line series-${i}`, points: path });
  });
  const marks = mark ? [svg("line", { class: "mark", x1: x(mark.at), x2: x(mark.at), y1: MARGIN.top,
    y2: HEIGHT - MARGIN.bottom }, svg("title", {}, mark.name))] : [];
  return chart(spec, ...frame(x, y, xRange, yRange, spec), ...marks, ...lines);
}

/**
 * Bars of the last series, with the others as lines over them; all share `edges`.
 * @param {{label: string, width: number, low: number, high: number, xLabel: string,
 *   series: {name: string, values: number[]}[]}} spec `values`: one for each bin
 */
export function histogram(spec) {
  const { width, low, high, series } = spec;
  const count = series[0].values.length;
  const top = Math.max(...series.map((s) => Math.max(...s.values)));
  const x = scale(low, high, MARGIN.left, width - MARGIN.right);
  const y = scale(0, top, HEIGHT - MARGIN.bottom, MARGIN.top);
  const step = (high - low) / count;
  const draw = ({ values }, i) => {
    if (i === series.length - 1) {
      return values.map((v, k) => svg("rect", { class: `bar series-${i}`, x: x(low + k * step).toFixed(2),
        width: Math.max(0.5, x(low + step) - x(low) - 0.3).toFixed(2), y: y(v).toFixed(1),
        height: Math.max(0, y(0) - y(v)).toFixed(1) }));
    }
    const points = values.map((v, k) => `${x(low + (k + 0.5) * step).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    return [svg("polyline", { class: `line series-${i}`, points })];
  };
  const drawn = series.map(draw).reverse().flat();
  return chart(spec, ...frame(x, y, [low, high], [0, top], spec), ...drawn);
}

/** A small bar for a table's cell. @param {number} part from 0 to 1 */
export function cellBar(part, text) {
  const width = `${(100 * Math.max(0, Math.min(1, part))).toFixed(1)}%`;
  const bar = element("span", { className: "cell-bar", "aria-hidden": "true" });
  bar.style.width = width;
  return element("span", { className: "with-bar" }, text, bar);
}
