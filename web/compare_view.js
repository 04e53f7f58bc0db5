/** Base against aligned: the same prompt and seed under one slider, and the figures. */

import { difference, el, figure } from "./dom.js";
import * as routes from "./routes.js";
import { t } from "./words.js";

export class CompareView {
  /** The end of its work is worth a message. */
  announces = true;

  constructor(onResize = () => {}) {
    this.onResize = onResize;
    this.pair = 0;
    this.status = el("p", { class: "gdro-status", text: t("The comparison appears here.") });
    this.preview = el("img", { class: "gdro-sheet", alt: t("The latest pictures"), hidden: true });
    this.base = el("img", { alt: t("Base model") });
    this.aligned = el("img", { alt: t("Aligned model"), class: "gdro-over" });
    this.edge = el("span", { class: "gdro-edge", "aria-hidden": "true" });
    this.slider = el("input", {
      type: "range", min: 0, max: 100, value: 50, "aria-label": t("Base to aligned"),
      input: () => this.#divide(),
    });
    this.stack = el("div", { class: "gdro-stack" }, this.base, this.aligned, this.edge, this.slider);
    this.prompt = el("p", { class: "gdro-prompt" });
    this.previous = el("button", {
      type: "button", text: "‹", "aria-label": t("Previous prompt"), click: () => this.#go(-1),
    });
    this.next = el("button", {
      type: "button", text: "›", "aria-label": t("Next prompt"), click: () => this.#go(1),
    });
    this.count = el("output", {});
    this.model = el("select", { "aria-label": t("Which LoRA"), hidden: true, change: () => this.#draw() });
    this.report = el("a", { target: "_blank", rel: "noopener", text: t("Report"), hidden: true });
    this.sides = el(
      "div",
      { class: "gdro-bar" },
      el("span", { text: t("base") }),
      this.previous,
      this.count,
      this.next,
      el("span", { text: t("aligned") }),
      this.model,
      this.report,
    );
    this.table = el("table", { class: "gdro-table" });
    this.body = el("div", { hidden: true }, this.prompt, this.stack, this.sides, this.table);
    this.element = el(
      "section",
      { class: "gdro-compare", "aria-label": t("Base against aligned") },
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
    if (place !== this.place || !found.results.length) return;
    this.pairs = found.pairs;
    this.rewards = found.rewards;
    this.results = found.results;
    this.model.replaceChildren(
      ...found.results.map((result, i) => el("option", { value: i, text: result.name })),
    );
    this.model.hidden = found.results.length < 2;
    this.report.hidden = !found.report;
    this.report.href = routes.reportUrl(place);
    this.pair = 0;
    this.preview.hidden = true;
    this.body.hidden = false;
    this.#tabulate();
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
    if (event === "end" && this.place) return this.show({ ...this.place });
  }

  #go(by) {
    this.pair = (this.pair + by + this.pairs.length) % this.pairs.length;
    this.#draw();
  }

  #draw() {
    const pair = this.pairs[this.pair];
    this.prompt.textContent = pair.prompt;
    this.base.src = routes.pairUrl(this.place, this.pair, 0);
    const model = Number(this.model.value);
    this.aligned.src = routes.pairUrl(this.place, this.pair, model + 1);
    const reward = (name) => figure(this.rewards[name]?.reward?.[pair.place]?.[0]);
    const change = `${reward("base")} → ${reward(this.results[model].name)}`;
    this.count.textContent = t("{change} · {number} of {total}", {
      change, number: this.pair + 1, total: this.pairs.length,
    });
  }

  #divide() {
    const left = Number(this.slider.value);
    this.aligned.style.clipPath = `inset(0 0 0 ${left}%)`;
    this.edge.style.left = `${left}%`;
    const shares = { left, right: 100 - left };
    this.slider.setAttribute("aria-valuetext", t("{left} % base, {right} % aligned", shares));
  }

  #tabulate() {
    const rows = this.results.flatMap((result) =>
      ["comparison", "guard", "corrected"]
        .map((kind) => result[kind])
        .filter(Boolean)
        .map((c) =>
          el(
            "tr",
            {},
            el("th", { scope: "row", text: `${c.reward}, ${result.name}` }),
            el("td", { text: figure(c.base) }),
            el("td", { text: figure(c.aligned) }),
            el("td", { text: difference(c.gain) }),
            el("td", { text: t("{low} to {high}", { low: difference(c.low), high: difference(c.high) }) }),
          ),
        ),
    );
    const [{ comparison: first }] = this.results;
    this.table.replaceChildren(
      el("caption", { text: t("{prompts} prompts, {images} images each, same seeds", first) }),
      el(
        "tr",
        {},
        ...["", t("base"), t("aligned"), t("gain"), t("95 % interval")].map((text) =>
          el("th", { scope: "col", text }),
        ),
      ),
      ...rows,
    );
    const verdict = first.low > 0 ? t("better") : first.high < 0 ? t("worse") : t("no clear difference");
    this.status.textContent = t(
      "Aligned against base: {verdict}; better on {share} % of prompts",
      { verdict, share: Math.round(100 * first.win_rate) },
    );
  }
}
