/** Base and aligned: images of the same prompt and seed under one slider, and the statistics. */

import { button, el } from "./dom.js";
import { formatDifference, formatNumber, formatPercent } from "./format.js";
import { t } from "./i18n.js";
import { Preview, setSource } from "./images.js";
import * as routes from "./routes.js";

/** Whether the interval holds its 95 %, as in evaluation/statistics.py. */
const hasInterval = ({ prompts, regular = true }) => regular && prompts >= 8;

export class CompareView {
  /** @param {{onResize?: () => void}} callbacks called when the view needs another height */
  constructor({ onResize = () => {} } = {}) {
    this.onResize = onResize;
    this.pair = 0;
    this.status = el("p", { class: "gdro-status", text: t("The comparison appears here.") });
    this.preview = new Preview();
    this.base = el("img", { alt: t("Base model") });
    this.aligned = el("img", { alt: t("Aligned model") });
    this.edge = el("span", { class: "gdro-edge", "aria-hidden": "true" });
    this.slider = el("input", {
      type: "range", min: 0, max: 100, value: 50, "aria-label": t("Divider between base and aligned"),
      input: () => this.#divide(),
    });
    this.stack = el("div", { class: "gdro-stack" }, this.base, this.aligned, this.edge, this.slider);
    this.prompt = el("p", { class: "gdro-prompt" });
    this.position = el("output", {});
    this.model = el("select", {
      "aria-label": t("LoRA to show"), hidden: true, change: () => this.#draw(),
    });
    this.report = el("a", { target: "_blank", rel: "noopener", text: t("Report"), hidden: true });
    this.bar = el(
      "div",
      { class: "gdro-bar" },
      el("span", { text: t("base") }),
      button("‹", () => this.#step(-1), { "aria-label": t("Previous prompt") }),
      this.position,
      button("›", () => this.#step(1), { "aria-label": t("Next prompt") }),
      el("span", { text: t("aligned") }),
      this.model,
      this.report,
    );
    this.table = el("table", { class: "gdro-table" });
    this.body = el("div", { hidden: true }, this.prompt, this.stack, this.bar, this.table);
    this.element = el(
      "section",
      { class: "gdro-compare", "aria-label": t("Comparison of base and aligned") },
      this.status,
      this.preview.element,
      this.body,
    );
    this.#divide();
  }

  get height() {
    if (!this.body.hidden) return 520;
    return this.preview.hidden ? 60 : 260;
  }

  /** What a finished evaluation found, for a message in the corner of the page. */
  get outcome() {
    if (this.body.hidden) return null;
    const { low, high } = this.results[0].comparison;
    const severity = low > 0 ? "success" : high < 0 ? "warn" : "info";
    return { severity, text: this.status.textContent };
  }

  async show(location) {
    if (!location.evaluation) return;
    this.location = location;
    let evaluation;
    try {
      evaluation = await routes.readEvaluation(location);
    } catch (error) {
      // Until the evaluation has ended there is nothing to read.
      if (error.status !== 404) this.status.textContent = error.message;
      return;
    }
    if (location !== this.location || !evaluation.results.length) return;
    this.pairs = evaluation.pairs;
    this.rewards = evaluation.rewards;
    this.results = evaluation.results;
    this.model.replaceChildren(
      ...this.results.map((result, index) => el("option", { value: index, text: result.name })),
    );
    this.model.hidden = this.results.length < 2;
    this.report.hidden = !evaluation.report;
    this.report.href = routes.reportUrl(location);
    this.pair = 0;
    this.preview.hide();
    this.body.hidden = false;
    this.#showStatistics();
    this.#draw();
    this.onResize();
  }

  /** Take a message of the server: "evaluation", "preview" or "end". */
  receive(event, message) {
    if (event === "evaluation") {
      this.body.hidden = true;
      this.status.textContent = t("The comparison appears here.");
    }
    if (event === "preview") {
      this.preview.show(message);
      this.onResize();
    }
    if (event === "end" && this.location) return this.show({ ...this.location });
  }

  #step(distance) {
    this.pair = (this.pair + distance + this.pairs.length) % this.pairs.length;
    this.#draw();
  }

  #draw() {
    const pair = this.pairs[this.pair];
    const model = Number(this.model.value);
    this.prompt.textContent = this.prompt.title = pair.prompt;
    setSource(this.base, routes.pairUrl(this.location, this.pair, 0));
    setSource(this.aligned, routes.pairUrl(this.location, this.pair, model + 1));
    const reward = (name) => formatNumber(this.rewards[name]?.reward?.[pair.place]?.[0]);
    this.position.textContent = t("{change} · {number} of {total}", {
      change: `${reward("base")} → ${reward(this.results[model].name)}`,
      number: this.pair + 1,
      total: this.pairs.length,
    });
  }

  #divide() {
    const left = Number(this.slider.value);
    this.aligned.style.clipPath = `inset(0 0 0 ${left}%)`;
    this.edge.style.left = `${left}%`;
    const shares = { left, right: 100 - left };
    this.slider.setAttribute("aria-valuetext", t("{left} % base, {right} % aligned", shares));
  }

  #showStatistics() {
    const [{ comparison: first }] = this.results;
    const head = ["", t("base"), t("aligned"), t("gain"), t("95 % interval")];
    const rows = this.results.flatMap((result) =>
      [result.comparison, result.guard, result.corrected]
        .filter(Boolean)
        .map((comparison) => this.#row(comparison, result.name)),
    );
    this.table.replaceChildren(
      el("caption", { text: t("{prompts} prompts, {images} images each, same seeds", first) }),
      el("tr", {}, ...head.map((text) => el("th", { scope: "col", text }))),
      ...rows,
    );
    const verdict = !hasInterval(first) ? t("no clear difference") :
      first.low > 0 ? t("better") : first.high < 0 ? t("worse") : t("no clear difference");
    this.status.textContent = t(
      "Aligned against base: {verdict}; better on {share} % of prompts",
      { verdict, share: formatPercent(first.win_rate) },
    );
  }

  #row(comparison, name) {
    const { reward, base, aligned, gain, low, high } = comparison;
    const interval = hasInterval(comparison)
      ? t("{low} to {high}", { low: formatDifference(low), high: formatDifference(high) })
      : t("none: too few prompts");
    return el(
      "tr",
      {},
      el("th", { scope: "row", text: `${reward}, ${name}` }),
      ...[formatNumber(base), formatNumber(aligned), formatDifference(gain), interval].map((text) =>
        el("td", { text }),
      ),
    );
  }
}
