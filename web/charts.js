/** Small line charts in SVG: raw and smoothed, linear or logarithmic, with a shared cursor. */

import { el } from "./dom.js";
import { formatNumber } from "./format.js";
import { t } from "./i18n.js";

const WIDTH = 300;
const HEIGHT = 100;
const MARGIN = 4;
const CHECKPOINT_HEIGHT = 6;
const MAX_POINTS = 400;
const COLORS = 3;

/** Return the exponential moving average with weight `smoothing` on the past, corrected for its start. */
export function smooth(points, smoothing) {
  let sum = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    sum = smoothing * sum + (1 - smoothing) * y;
    weight = smoothing * weight + (1 - smoothing);
    return [x, sum / weight];
  });
}

/** Return at most about `limit` points that draw the same line: the lowest and highest of each bin. */
export function thin(points, limit = MAX_POINTS) {
  if (points.length <= limit) return points;
  const size = Math.ceil(points.length / (limit / 2));
  const thinned = [];
  for (let start = 0; start < points.length; start += size) {
    const bin = points.slice(start, start + size);
    let low = bin[0];
    let high = bin[0];
    for (const point of bin) {
      if (point[1] < low[1]) low = point;
      if (point[1] > high[1]) high = point;
    }
    thinned.push(...(low[0] < high[0] ? [low, high] : low === high ? [low] : [high, low]));
  }
  return thinned;
}

/** Return the point whose x is nearest, or null if there are none; `points` are sorted by x. */
export function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  if (high < 0) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}

export class Chart {
  /**
   * @param {string} title
   * @param {(step: number|null) => void} onCursor called with the step under the pointer
   */
  constructor(title, onCursor) {
    this.title = title;
    this.onCursor = onCursor;
    this.series = [];
    this.values = el("span", { class: "gdro-chart-values" });
    this.top = el("span", { class: "gdro-chart-top" });
    this.bottom = el("span", { class: "gdro-chart-bottom" });
    this.plot = el("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.area = el(
      "div",
      {
        class: "gdro-chart-area",
        tabindex: 0,
        role: "img",
        pointermove: (event) => this.#onPointer(event),
        pointerleave: () => onCursor(null),
        blur: () => onCursor(null),
        keydown: (event) => this.#onKey(event),
      },
      this.plot,
      this.top,
      this.bottom,
    );
    this.element = el(
      "figure",
      { class: "gdro-chart", hidden: true },
      el("figcaption", {}, el("span", { text: title }), this.values),
      this.area,
    );
  }

  /**
   * @param {{name: string, points: [number, number][], dashed?: boolean}[]} series
   * @param {{from: number, to: number, smoothing: number, log: boolean, best: number|null,
   *   checkpoints: number[]}} options steps at both ends, and those that are marked
   */
  draw(series, { from, to, smoothing, log, best, checkpoints }) {
    Object.assign(this, { from, to });
    this.series = series
      .filter(({ points }) => points.length)
      .map((one) => ({
        ...one,
        smoothed:
          smoothing > 0 && !one.dashed && one.points.length > 2
            ? smooth(one.points, smoothing)
            : null,
      }));
    const [low, high, y] = this.#scale(log);
    this.x = (step) => ((step - from) / (to - from || 1)) * WIDTH;
    this.line = el("line", { class: "gdro-cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.plot.replaceChildren(
      ...this.series.flatMap((one, index) => this.#curve(one, index % COLORS, y)),
      ...checkpoints.map((step) => this.#checkpoint(step)),
      ...(best == null ? [] : [this.#vertical("gdro-best", best, 0)]),
      this.line,
    );
    this.top.textContent = this.series.length ? formatNumber(high) : "";
    this.bottom.textContent = this.series.length ? formatNumber(low) : "";
    this.element.hidden = !this.series.length;
    this.setCursor(this.cursor ?? null);
  }

  /** Show the values at a step; null shows the last ones. */
  setCursor(step) {
    this.cursor = step;
    const texts = [];
    let shownStep = null;
    for (const { name, points, smoothed } of this.series) {
      const at = (line) => (step == null ? line.at(-1) : nearest(line, step));
      const [x, y] = at(smoothed ?? points);
      shownStep ??= x;
      const value = smoothed ? `${formatNumber(y)} (${formatNumber(at(points)[1])})` : formatNumber(y);
      texts.push(this.series.length > 1 ? `${name} ${value}` : value);
    }
    const values = texts.join(", ");
    const chart = this.title;
    this.values.textContent = values;
    this.area.setAttribute(
      "aria-label",
      values
        ? t("{chart}: {values} at step {step}", { chart, values, step: shownStep })
        : t("{chart}: no values", { chart }),
    );
    if (!this.line) return;
    const isVisible = step != null && shownStep != null;
    this.line.setAttribute("visibility", isVisible ? "visible" : "hidden");
    if (isVisible) {
      this.line.setAttribute("x1", this.x(shownStep));
      this.line.setAttribute("x2", this.x(shownStep));
    }
  }

  /** Return the lowest and the highest value, and a function from a value to its height in the plot. */
  #scale(log) {
    const values = this.series.flatMap(({ points }) => points.map((point) => point[1]));
    const isLog = log && values.every((value) => value > 0);
    const scale = isLog ? Math.log : (value) => value;
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, scale(value));
      high = Math.max(high, scale(value));
    }
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const height = HEIGHT - 2 * MARGIN;
    const y = (value) => HEIGHT - MARGIN - ((scale(value) - low) / (high - low)) * height;
    return isLog ? [Math.exp(low), Math.exp(high), y] : [low, high, y];
  }

  #curve({ points, smoothed, dashed }, color, y) {
    const style = `gdro-line gdro-line-${color}${dashed ? " gdro-dashed" : ""}`;
    const path = (line) =>
      thin(line)
        .map((point, i) => `${i ? "L" : "M"}${this.x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`)
        .join("");
    if (points.length === 1) {
      const [[step, value]] = points;
      return [el("path", { class: style, d: `M${this.x(step) - 3} ${y(value)}h6` })];
    }
    if (!smoothed) return [el("path", { class: style, d: path(points) })];
    return [
      el("path", { class: `${style} gdro-raw`, d: path(points) }),
      el("path", { class: style, d: path(smoothed) }),
    ];
  }

  #checkpoint(step) {
    const title = t("Checkpoint: a cancelled training resumes from here");
    return this.#vertical(
      "gdro-checkpoint", step, HEIGHT - CHECKPOINT_HEIGHT, el("title", { text: title }),
    );
  }

  #vertical(style, step, top, ...children) {
    const x = this.x(step);
    return el("line", { class: style, x1: x, x2: x, y1: top, y2: HEIGHT }, ...children);
  }

  #onPointer(event) {
    const box = this.area.getBoundingClientRect();
    const fraction = (event.clientX - box.left) / box.width;
    this.onCursor(this.from + fraction * (this.to - this.from));
  }

  #onKey(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    const distance = Math.max(1, (this.to - this.from) / 50);
    const start = this.cursor ?? (direction > 0 ? this.from : this.to);
    this.onCursor(Math.min(this.to, Math.max(this.from, start + direction * distance)));
  }
}
