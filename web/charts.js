/** Small line charts, drawn as SVG: raw and smoothed, linear or logarithmic, with a shared cursor. */

import { el, figure } from "./dom.js";
import { t } from "./words.js";

const WIDTH = 300;
const HEIGHT = 100;
const MOST_POINTS = 400;

/** Exponential average with weight `smoothing` on the past, corrected for its start. */
export function smoothed(points, smoothing) {
  let sum = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    sum = smoothing * sum + (1 - smoothing) * y;
    weight = smoothing * weight + (1 - smoothing);
    return [x, sum / weight];
  });
}

/** Fewer points that look the same: the smallest and the largest of each part. */
export function thinned(points, most = MOST_POINTS) {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / (most / 2));
  const kept = [];
  for (let start = 0; start < points.length; start += size) {
    const bunch = points.slice(start, start + size);
    let low = bunch[0];
    let high = bunch[0];
    for (const point of bunch) {
      if (point[1] < low[1]) low = point;
      if (point[1] > high[1]) high = point;
    }
    kept.push(...(low[0] < high[0] ? [low, high] : low === high ? [low] : [high, low]));
  }
  return kept;
}

/** The point whose x is nearest; null where there is none. */
export function nearest(points, x) {
  let from = 0;
  let to = points.length - 1;
  if (to < 0) return null;
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (points[middle][0] <= x) from = middle;
    else to = middle;
  }
  return Math.abs(points[from][0] - x) <= Math.abs(points[to][0] - x) ? points[from] : points[to];
}

export class Chart {
  /**
   * @param {string} title
   * @param {(step: number|null) => void} onCursor told where the pointer is
   */
  constructor(title, onCursor) {
    this.title = title;
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
        pointermove: (event) => {
          const box = this.area.getBoundingClientRect();
          const place = (event.clientX - box.left) / box.width;
          onCursor(this.from + place * (this.to - this.from));
        },
        pointerleave: () => onCursor(null),
        blur: () => onCursor(null),
        keydown: (event) => {
          const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (!move) return;
          event.preventDefault();
          event.stopPropagation();
          const far = (this.to - this.from) / 50;
          const now = this.cursor ?? (move > 0 ? this.from : this.to);
          onCursor(Math.min(this.to, Math.max(this.from, now + move * Math.max(1, far))));
        },
      },
      this.plot,
      this.top,
      this.bottom,
    );
    this.element = el(
      "figure",
      { class: "gdro-chart" },
      el("figcaption", {}, el("span", { text: title }), this.values),
      this.area,
    );
  }

  /**
   * @param {{name: string, points: [number, number][], dashed?: boolean}[]} series
   * @param {{from: number, to: number, smoothing: number, log: boolean, mark: number|null,
   *   checkpoints?: number[]}} how
   */
  draw(series, how) {
    this.series = series.filter((one) => one.points.length);
    Object.assign(this, { from: how.from, to: how.to, mark: how.mark });
    const all = this.series.flatMap((one) => one.points.map((point) => point[1]));
    const log = how.log && all.length > 0 && all.every((y) => y > 0);
    const scale = log ? Math.log : (y) => y;
    let low = Infinity;
    let high = -Infinity;
    for (const y of all) {
      low = Math.min(low, scale(y));
      high = Math.max(high, scale(y));
    }
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const x = (step) => ((step - this.from) / (this.to - this.from || 1)) * WIDTH;
    const y = (value) => HEIGHT - 4 - ((scale(value) - low) / (high - low)) * (HEIGHT - 8);
    const path = (points) =>
      thinned(points)
        .map((point, i) => `${i ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`)
        .join("");
    const lines = [];
    for (const [place, one] of this.series.entries()) {
      const look = `gdro-line gdro-line-${place % 3}${one.dashed ? " gdro-dashed" : ""}`;
      const smooth = how.smoothing > 0 && !one.dashed && one.points.length > 2;
      if (smooth) {
        lines.push(el("path", { class: `${look} gdro-raw`, d: path(one.points) }));
        one.smooth = smoothed(one.points, how.smoothing);
      } else {
        delete one.smooth;
      }
      if (one.points.length === 1) {
        const [px, py] = [x(one.points[0][0]), y(one.points[0][1])];
        lines.push(el("path", { class: look, d: `M${px - 3} ${py}h6` }));
      }
      lines.push(el("path", { class: look, d: path(one.smooth ?? one.points) }));
    }
    this.x = x;
    this.line = el("line", { class: "gdro-cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    for (const step of how.checkpoints ?? []) {
      const title = el("title", { text: t("Checkpoint: a cancelled training goes on from here") });
      const place = { x1: x(step), x2: x(step), y1: HEIGHT - 6, y2: HEIGHT };
      lines.push(el("line", { class: "gdro-checkpoint", ...place }, title));
    }
    if (this.mark != null) {
      lines.push(
        el("line", { class: "gdro-best", x1: x(this.mark), x2: x(this.mark), y1: 0, y2: HEIGHT }),
      );
    }
    this.plot.replaceChildren(...lines, this.line);
    this.top.textContent = all.length ? figure(log ? Math.exp(high) : high) : "";
    this.bottom.textContent = all.length ? figure(log ? Math.exp(low) : low) : "";
    this.element.hidden = !this.series.length;
    this.setCursor(this.cursor ?? null);
  }

  /** Show the values at a step; null shows the last ones. */
  setCursor(step) {
    this.cursor = step;
    const shown = [];
    let at = null;
    for (const one of this.series) {
      const points = one.smooth ?? one.points;
      const point = step == null ? points.at(-1) : nearest(points, step);
      const raw = step == null ? one.points.at(-1) : nearest(one.points, step);
      if (!point) continue;
      at ??= point[0];
      const both = one.smooth ? `${figure(point[1])} (${figure(raw[1])})` : figure(point[1]);
      shown.push(this.series.length > 1 ? `${one.name} ${both}` : both);
    }
    this.values.textContent = shown.join(", ");
    const chart = this.title;
    this.area.setAttribute(
      "aria-label",
      shown.length
        ? t("{chart}: {values} at step {step}", { chart, values: shown.join(", "), step: at })
        : t("{chart}: no values", { chart }),
    );
    if (!this.line) return;
    this.line.setAttribute("visibility", step == null || at == null ? "hidden" : "visible");
    if (step != null && at != null) {
      this.line.setAttribute("x1", this.x(at));
      this.line.setAttribute("x2", this.x(at));
    }
  }
}
