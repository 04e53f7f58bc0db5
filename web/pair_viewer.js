/** Pairs of images, one by the base and one by an aligned model: under a slider or side by side, zoomed together. */

import { button, el, openWindow } from "./dom.js";
import { formatNumber } from "./format.js";
import { t } from "./i18n.js";
import { scaled, setSource } from "./images.js";

const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const EQUAL = 1e-6; // rewards that differ by less are the same

const modes = () => [["slider", t("Slider")], ["beside", t("Side by side")]];
/** The rules by which the first pair is chosen. */
const orders = () => [
  ["typical", t("Typical first: gain nearest to the mean")],
  ["gain", t("Largest gain first")],
  ["loss", t("Largest loss first")],
  ["listed", t("As listed")],
];

/**
 * @typedef {object} Pair
 * @property {string} prompt
 * @property {string[]} urls of the images: base, then aligned
 * @property {(number|null)[]} rewards of the two images
 */

export class PairViewer {
  /** @param {{isWindow?: boolean}} options whether it stands in a window of its own */
  constructor({ isWindow = false } = {}) {
    this.isWindow = isWindow;
    this.pairs = [];
    this.position = 0;
    this.zoom = 0; // index into ZOOMS
    this.centre = [50, 50]; // percent of the image that the zoom is about
    this.images = [0, 1].map(() => scaled(el("img", { draggable: "false" })));
    this.halves = this.images.map((image) => el("div", { class: "gdro-half" }, image));
    this.captions = [t("base"), t("aligned")].map((text) => el("span", { class: "gdro-badge", text }));
    this.halves.forEach((half, index) => half.append(this.captions[index]));
    this.edge = el("span", { class: "gdro-edge", "aria-hidden": "true" });
    this.slider = el("input", {
      type: "range", min: 0, max: 100, value: 50, "aria-label": t("Divider between base and aligned"),
      input: () => this.#divide(),
    });
    this.stack = el(
      "div",
      {
        class: "gdro-stack",
        wheel: (event) => this.#onWheel(event),
        pointerdown: (event) => this.#onPointer(event),
        pointermove: (event) => this.#onPointer(event),
        dblclick: () => this.enlarge(),
      },
      ...this.halves,
      this.edge,
      this.slider,
    );
    this.prompt = el("p", { class: "gdro-prompt" });
    this.verdict = el("output", { class: "gdro-verdict" });
    this.mode = this.#select(t("View"), modes(), () => this.#draw());
    this.order = this.#select(t("Which pair comes first"), orders(), () => {
      this.position = 0;
      this.#draw();
    });
    this.bar = el(
      "div",
      { class: "gdro-bar" },
      button("‹", () => this.step(-1), { "aria-label": t("Previous prompt") }),
      this.verdict,
      button("›", () => this.step(1), { "aria-label": t("Next prompt") }),
      this.mode,
      this.order,
      button("−", () => this.#zoomBy(-1), { "aria-label": t("Zoom out") }),
      button("+", () => this.#zoomBy(1), { "aria-label": t("Zoom in") }),
      isWindow ? null : button(t("Large"), () => this.enlarge(), { title: t("Open in a window (Z)") }),
    );
    this.element = el(
      "div",
      {
        class: "gdro-pairs", tabindex: 0, role: "group", "aria-label": t("Pairs of pictures"),
        keydown: (event) => this.#onKey(event),
      },
      this.prompt,
      this.stack,
      this.bar,
    );
    this.#divide();
  }

  /**
   * Show pairs in the chosen order.
   * @param {Pair[]} pairs
   * @param {number} gain the mean over all prompts, next to which a pair is typical
   */
  set(pairs, gain) {
    Object.assign(this, { pairs, gain });
    this.position = Math.min(this.position, Math.max(pairs.length - 1, 0));
    this.#draw();
  }

  /** Go to the first pair. */
  rewind() {
    this.position = 0;
  }

  step(distance) {
    const { length } = this.pairs;
    if (!length) return;
    this.position = (this.position + distance + length) % length;
    this.#draw();
  }

  /** Open the pair in a window, as it is shown here. */
  enlarge() {
    if (this.isWindow || !this.pairs.length) return;
    const large = new PairViewer({ isWindow: true });
    large.mode.value = this.mode.value;
    large.order.value = this.order.value;
    large.position = this.position;
    large.slider.value = this.slider.value;
    openWindow(t("Base and aligned"), large.element, () => {
      this.order.value = large.order.value;
      this.position = large.position;
      this.#draw();
      this.element.focus({ preventScroll: true });
    });
    large.#divide();
    large.set(this.pairs, this.gain);
    large.element.focus();
  }

  #select(label, choices, onChange) {
    return el(
      "select",
      { "aria-label": label, title: label, change: onChange },
      ...choices.map(([value, text]) => el("option", { value, text })),
    );
  }

  /** Return the pairs in the chosen order; those without rewards come last. */
  #ordered() {
    const gain = ({ rewards: [base, aligned] }) => aligned - base;
    const keys = {
      typical: (pair) => Math.abs(gain(pair) - (this.gain ?? 0)),
      gain: (pair) => -gain(pair),
      loss: gain,
    };
    const key = keys[this.order.value];
    if (!key) return this.pairs;
    const rank = (pair) => (pair.rewards.every(Number.isFinite) ? key(pair) : Infinity);
    return this.pairs
      .map((pair, index) => [pair, rank(pair), index])
      .sort(([, a, i], [, b, j]) => (a === b ? i - j : a - b))
      .map(([pair]) => pair);
  }

  #draw() {
    const pair = this.#ordered()[this.position];
    if (!pair) return;
    this.prompt.textContent = this.prompt.title = pair.prompt;
    const names = [t("Base model"), t("Aligned model")];
    for (const [index, image] of this.images.entries()) {
      setSource(image, pair.urls[index]);
      image.alt = `${names[index]}: ${pair.prompt}`;
    }
    const [base, aligned] = pair.rewards;
    const values = {
      change: `${formatNumber(base)} → ${formatNumber(aligned)}`,
      number: this.position + 1,
      total: this.pairs.length,
    };
    const isKnown = Number.isFinite(base) && Number.isFinite(aligned);
    const kind = !isKnown || Math.abs(aligned - base) < EQUAL ? "same" : aligned > base ? "better" : "worse";
    this.verdict.dataset.verdict = kind;
    this.verdict.textContent = !isKnown
      ? t("{change} · {number} of {total}", values)
      : kind === "better"
        ? t("better: {change} · {number} of {total}", values)
        : kind === "worse"
          ? t("worse: {change} · {number} of {total}", values)
          : t("the same: {change} · {number} of {total}", values);
    const isBeside = this.mode.value === "beside";
    this.stack.classList.toggle("gdro-beside", isBeside);
    this.edge.hidden = this.slider.hidden = isBeside;
    this.#transform();
  }

  #divide() {
    const left = Number(this.slider.value);
    this.stack.style.setProperty("--gdro-left", `${left}%`);
    const shares = { left, right: 100 - left };
    this.slider.setAttribute("aria-valuetext", t("{left} % base, {right} % aligned", shares));
  }

  #zoomBy(steps) {
    this.zoom = Math.min(ZOOMS.length - 1, Math.max(0, this.zoom + steps));
    this.#transform();
  }

  /** Zoom and move both images alike. */
  #transform() {
    const [x, y] = this.centre;
    for (const { style } of this.images) {
      style.transformOrigin = `${x}% ${y}%`;
      style.transform = ZOOMS[this.zoom] > 1 ? `scale(${ZOOMS[this.zoom]})` : "";
    }
    this.stack.classList.toggle("gdro-zoomed", this.zoom > 0);
  }

  /** Zoom with the wheel in a window; on a node, the wheel zooms the canvas unless the image is zoomed. */
  #onWheel(event) {
    if (!this.isWindow && !this.zoom) return;
    event.preventDefault();
    event.stopPropagation();
    this.#point(event);
    this.#zoomBy(event.deltaY < 0 ? 1 : -1);
  }

  /** Look around in a zoomed image with the pointer held down. */
  #onPointer(event) {
    if (!this.zoom || event.target === this.slider || !(event.buttons & 1)) return;
    event.stopPropagation();
    this.#point(event);
    this.#transform();
  }

  #point(event) {
    const half = event.target.closest?.(".gdro-half") ?? this.halves[0];
    const box = half.getBoundingClientRect();
    const share = (position, start, length) =>
      Math.min(100, Math.max(0, ((position - start) / (length || 1)) * 100));
    this.centre = [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
  }

  #onKey(event) {
    const inField = event.target instanceof HTMLSelectElement || event.target === this.slider;
    const onButton = event.target instanceof HTMLButtonElement;
    const commands = {
      ArrowUp: () => this.step(-1),
      ArrowDown: () => this.step(1),
      PageUp: () => this.step(-1),
      PageDown: () => this.step(1),
      ArrowLeft: () => this.#nudge(-5),
      ArrowRight: () => this.#nudge(5),
      "+": () => this.#zoomBy(1),
      "-": () => this.#zoomBy(-1),
      z: () => this.enlarge(),
    };
    const command = commands[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!command || event.ctrlKey || event.metaKey || event.altKey) return;
    if (inField && event.key.startsWith("Arrow")) return;
    if (onButton && event.key === "Enter") return;
    command();
    event.preventDefault();
  }

  #nudge(distance) {
    this.slider.value = Number(this.slider.value) + distance;
    this.#divide();
  }
}
