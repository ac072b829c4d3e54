// meter.js: the figures beside Write and Chat, and their plot: tokens per second and memory over time, with the
// moment of the first token.
import { byId, bytes, duration, figure } from "./dom.js";
import { lineChart } from "./plot.js";

const EVERY_MS = 100; // between two points
const PLOT_WIDTH = 230;

class Meter {
  start() {
    this._begun = performance.now();
    this._last = this._begun;
    this._pieces = 0; // since the last point
    this._first = null;
    this._points = [];
    for (const name of ["speed", "first", "tokens", "memory"]) byId(`stat-${name}`).textContent = "–";
  }

  /** After every piece. @param {{tokensPerSecond?: number, engineBytes?: number}} figures */
  add({ tokensPerSecond, engineBytes }) {
    const now = performance.now();
    this._first ??= (now - this._begun) / 1000;
    this._pieces += 1;
    if (now - this._last < EVERY_MS) return;
    this._point(now, engineBytes);
    byId("stat-speed").textContent = figure(tokensPerSecond);
    if (engineBytes) byId("stat-memory").textContent = bytes(engineBytes);
    this._draw();
  }

  /** The speed since the last point. */
  _point(now, memory) {
    const speed = (1000 * this._pieces) / (now - this._last);
    this._points.push({ time: (now - this._begun) / 1000, speed, memory });
    this._last = now;
    this._pieces = 0;
  }

  /** @param {object | null} stats of the generation, null when it failed */
  finish(stats) {
    if (!stats) return;
    byId("stat-speed").textContent = figure(stats.tokensPerSecond);
    byId("stat-first").textContent = stats.timeToFirstToken === null ? "–" : duration(stats.timeToFirstToken);
    byId("stat-tokens").textContent = `${stats.tokens} (prompt ${stats.promptTokens})`;
    byId("stat-memory").textContent = bytes(stats.engineBytes);
    const now = performance.now();
    if (this._points.length === 0 || now - this._last > EVERY_MS / 2) this._point(now, stats.engineBytes);
    for (const point of this._points) point.memory ??= stats.engineBytes;
    this._first = stats.timeToFirstToken;
    this._draw(stats);
  }

  _draw(stats) {
    const points = this._points;
    const last = points.at(-1);
    const words = `Tokens per second over time, ${figure(last.speed)} now`
      + (stats ? `; first token after ${duration(stats.timeToFirstToken ?? 0)}; memory ${bytes(last.memory)}` : "");
    byId("meter").replaceChildren(lineChart({
      label: words,
      width: PLOT_WIDTH,
      x: points.map((p) => p.time),
      xLabel: "seconds",
      series: [
        { name: "tokens per second", values: points.map((p) => p.speed) },
        { name: "memory", values: points.map((p) => p.memory ?? NaN), own: true, format: bytes },
      ],
      mark: this._first === null ? undefined : { at: this._first, name: "first token" },
    }));
  }
}

export const meter = new Meter();
