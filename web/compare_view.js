/** Base and aligned: images of the same prompt and seed, and the statistics. */

import { el } from "./dom.js";
import { formatDifference, formatNumber, formatPercent } from "./format.js";
import { t } from "./i18n.js";
import { Preview } from "./images.js";
import { PairViewer } from "./pair_viewer.js";
import * as routes from "./routes.js";

/** Whether the interval holds its 95 %, as in evaluation/statistics.py. */
const hasInterval = ({ prompts, regular = true }) => regular && prompts >= 8;

/** Return what a comparison found, in one word or two. */
function verdictOf(comparison) {
  if (!hasInterval(comparison)) return t("no clear difference");
  if (comparison.low > 0) return t("better");
  return comparison.high < 0 ? t("worse") : t("no clear difference");
}

export class CompareView {
  /** @param {{onResize?: () => void}} callbacks called when the view needs another height */
  constructor({ onResize = () => {} } = {}) {
    this.onResize = onResize;
    this.status = el("p", { class: "gdro-status", text: t("The comparison appears here.") });
    this.preview = new Preview();
    this.viewer = new PairViewer();
    this.model = el("select", {
      "aria-label": t("LoRA to show"), hidden: true, change: () => this.#draw(),
    });
    this.report = el("a", { target: "_blank", rel: "noopener", text: t("Report"), hidden: true });
    this.viewer.bar.append(this.model, this.report);
    this.table = el("table", { class: "gdro-table" });
    this.body = el("div", { hidden: true }, this.viewer.element, this.table);
    this.element = el(
      "section",
      { class: "gdro-compare", "aria-label": t("Comparison of base and aligned") },
      this.status,
      this.preview.element,
      this.body,
    );
  }

  get height() {
    if (!this.body.hidden) return 540;
    return this.preview.hidden ? 60 : 260;
  }

  /** What a finished evaluation found, for a message in the corner of the page. */
  get outcome() {
    if (this.body.hidden) return null;
    const { comparison } = this.results[0];
    const { low, high } = comparison;
    const isClear = hasInterval(comparison);
    const severity = isClear && low > 0 ? "success" : isClear && high < 0 ? "warn" : "info";
    return { severity, text: this.status.textContent };
  }

  async show(location) {
    if (!location.evaluation) return;
    this.location = location;
    let evaluation;
    try {
      evaluation = await routes.readEvaluation(location);
    } catch (error) {
      if (location === this.location) await this.#showUnfinished(location, error);
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
    this.viewer.rewind();
    this.preview.hide(location.evaluation);
    this.body.hidden = false;
    this.#showStatistics();
    this.#draw();
    this.onResize();
  }

  /** Until an evaluation has ended there is nothing to read: show the last pictures that it drew. */
  async #showUnfinished(location, error) {
    this.body.hidden = true;
    this.preview.recall(location.evaluation);
    this.onResize();
    if (error.status !== 404) {
      this.status.textContent = error.message;
      return;
    }
    const working = await routes.listWorking().catch(() => []);
    if (location !== this.location || !this.body.hidden) return;
    this.status.textContent = working.some(({ evaluation }) => evaluation === location.evaluation)
      ? t("Drawing the pictures to compare.")
      : t("Not finished: Run goes on from what is drawn. The comparison appears here.");
  }

  /** Take a message of the server: "evaluation", "preview" or "end". */
  receive(event, message) {
    if (event === "evaluation") {
      this.body.hidden = true;
      this.status.textContent = t("Drawing the pictures to compare.");
    }
    if (event === "preview") {
      this.preview.show(message, this.location?.evaluation);
      this.onResize();
    }
    if (event === "end" && this.location) return this.show({ ...this.location });
  }

  #draw() {
    const { name, comparison } = this.results[Number(this.model.value)];
    const reward = (who, place) => this.rewards[who]?.reward?.[place]?.[0] ?? null;
    const model = Number(this.model.value) + 1;
    this.viewer.set(
      this.pairs.map(({ prompt, place }, index) => ({
        prompt,
        urls: [0, model].map((who) => routes.pairUrl(this.location, index, who)),
        rewards: [reward("base", place), reward(name, place)],
      })),
      comparison.gain,
    );
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
    this.status.textContent = t(
      "Aligned against base: {verdict}; better on {share} % of prompts",
      { verdict: verdictOf(first), share: formatPercent(first.win_rate) },
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
