/** Base against aligned: the same prompt and seed under one slider, and the figures. */

import { el, figure } from "./dom.js";
import * as routes from "./routes.js";

const Z95 = 1.959964;

export class CompareView {
  constructor(onResize = () => {}) {
    this.onResize = onResize;
    this.pair = 0;
    this.status = el("p", { class: "gdro-status", text: "The comparison appears here." });
    this.preview = el("img", { class: "gdro-sheet", alt: "The latest pictures", hidden: true });
    this.base = el("img", { alt: "Base model" });
    this.aligned = el("img", { alt: "Aligned model", class: "gdro-over" });
    this.edge = el("span", { class: "gdro-edge", "aria-hidden": "true" });
    this.slider = el("input", {
      type: "range", min: 0, max: 100, value: 50, "aria-label": "Base to aligned",
      input: () => this.#divide(),
    });
    this.stack = el("div", { class: "gdro-stack" }, this.base, this.aligned, this.edge, this.slider);
    this.prompt = el("p", { class: "gdro-prompt" });
    this.previous = el("button", {
      type: "button", text: "‹", "aria-label": "Previous prompt", click: () => this.#go(-1),
    });
    this.next = el("button", {
      type: "button", text: "›", "aria-label": "Next prompt", click: () => this.#go(1),
    });
    this.count = el("output", {});
    this.sides = el(
      "div",
      { class: "gdro-bar" },
      el("span", { text: "base" }),
      this.previous,
      this.count,
      this.next,
      el("span", { text: "aligned" }),
    );
    this.table = el("table", { class: "gdro-table" });
    this.body = el("div", { hidden: true }, this.prompt, this.stack, this.sides, this.table);
    this.element = el(
      "section",
      { class: "gdro-compare", "aria-label": "Base against aligned" },
      this.status,
      this.preview,
      this.body,
    );
    this.#divide();
  }

  get height() {
    return this.body.hidden ? (this.preview.hidden ? 60 : 260) : 520;
  }

  async show(place) {
    if (!place.evaluation) return;
    this.place = place;
    let found;
    try {
      found = await routes.readEvaluation(place);
    } catch (error) {
      if (error.status !== 404) this.status.textContent = error.message;
      return;
    }
    if (place !== this.place || !found.comparison) return;
    this.pairs = found.pairs;
    this.rewards = found.rewards;
    this.pair = 0;
    this.preview.hidden = true;
    this.body.hidden = false;
    this.#tabulate(found.comparison);
    this.#draw();
    this.onResize();
  }

  receive(event, detail) {
    if (event === "evaluation") this.body.hidden = true;
    if (event === "preview" && detail.picture?.startsWith("data:image/jpeg;base64,")) {
      this.preview.src = detail.picture;
      this.preview.hidden = false;
      this.onResize();
    }
    if (event === "end" && this.place) this.show({ ...this.place });
  }

  #go(by) {
    this.pair = (this.pair + by + this.pairs.length) % this.pairs.length;
    this.#draw();
  }

  #draw() {
    const pair = this.pairs[this.pair];
    // Evaluations of before there were pairs have one picture of everything.
    const whole = !pair;
    for (const part of [this.aligned, this.edge, this.slider, this.sides]) part.hidden = whole;
    this.stack.classList.toggle("gdro-whole", whole);
    if (whole) {
      this.prompt.textContent = "";
      this.base.src = routes.comparisonUrl(this.place);
      return;
    }
    this.prompt.textContent = pair.prompt;
    this.base.src = routes.pairUrl(this.place, this.pair, "base");
    this.aligned.src = routes.pairUrl(this.place, this.pair, "aligned");
    const reward = (side) => figure(this.rewards?.[side]?.[pair.place]?.[0]);
    this.count.textContent =
      `${reward("base")} → ${reward("aligned")} · ${this.pair + 1} of ${this.pairs.length}`;
  }

  #divide() {
    const left = Number(this.slider.value);
    this.aligned.style.clipPath = `inset(0 0 0 ${left}%)`;
    this.edge.style.left = `${left}%`;
    this.slider.setAttribute("aria-valuetext", `${left} % base, ${100 - left} % aligned`);
  }

  #tabulate(c) {
    const interval = (mean, error) =>
      `${figure(mean - Z95 * error)} to ${figure(mean + Z95 * error)}`;
    const line = (name, mean, error) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: name }),
        el("td", { text: figure(mean) }),
        el("td", { text: interval(mean, error) }),
      );
    this.table.replaceChildren(
      el("caption", { text: `${c.reward}, ${c.prompts} prompts, ${c.images} images each` }),
      el(
        "tr",
        {},
        ...["", "mean", "95 % interval"].map((text) => el("th", { scope: "col", text })),
      ),
      line("base", c.base, c.base_error),
      line("aligned", c.aligned, c.aligned_error),
      line("gain", c.gain, c.gain_error),
    );
    const better = c.gain - Z95 * c.gain_error > 0;
    const worse = c.gain + Z95 * c.gain_error < 0;
    const verdict = better ? "better" : worse ? "worse" : "no clear difference";
    this.status.textContent =
      `Aligned against base: ${verdict}; better on ${Math.round(100 * c.win_rate)} % of prompts`;
  }
}
