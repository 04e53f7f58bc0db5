/** Two rollouts of the same prompts and seeds, image beside image. */

import { el } from "./dom.js";
import { formatDifference } from "./format.js";
import { t } from "./i18n.js";
import { PairViewer } from "./pair_viewer.js";
import * as routes from "./routes.js";

const LIMIT = 200; // groups in one answer, and the most that are shown

export class RolloutsView {
  /** @param {{onResize?: () => void}} callbacks called when the view needs another height */
  constructor({ onResize = () => {} } = {}) {
    this.onResize = onResize;
    this.status = el("p", { class: "gdro-status", text: t("The comparison appears here.") });
    this.viewer = new PairViewer();
    this.viewer.element.hidden = true;
    this.element = el(
      "section",
      { class: "gdro-compare", "aria-label": t("Comparison of base and aligned") },
      this.status,
      this.viewer.element,
    );
  }

  get height() {
    return this.viewer.element.hidden ? 60 : 420;
  }

  async show(location) {
    if (!location.run || !location.other) return;
    this.location = location;
    let answers;
    try {
      answers = await Promise.all([
        this.#read(location.run, location.scores),
        this.#read(location.other, location.other_scores),
      ]);
    } catch (error) {
      if (location === this.location) this.status.textContent = error.message;
      return;
    }
    if (location !== this.location) return;
    const pairs = this.#pairs(...answers);
    const gains = pairs.map(({ rewards: [a, b] }) => b - a).filter(Number.isFinite);
    const mean = gains.reduce((sum, gain) => sum + gain, 0) / (gains.length || 1);
    this.viewer.element.hidden = !pairs.length;
    this.viewer.set(pairs, mean);
    this.status.textContent = gains.length
      ? t("{count} pairs of pictures; rewards differ by {gain} on average", {
          count: pairs.length, gain: formatDifference(mean),
        })
      : t("{count} pairs of pictures", { count: pairs.length });
    this.onResize();
  }

  /** Take a message of the server: "location" or "end". */
  receive(event) {
    if (event === "end" && this.location) return this.show({ ...this.location });
  }

  #read(run, scores) {
    const query = { offset: 0, limit: LIMIT, order: "arrival", ...(scores ? { scores } : {}) };
    return routes.readGroups(run, query);
  }

  /** Return the images that both rollouts have: the first of each prompt with a score, or its first. */
  #pairs(base, aligned) {
    const others = new Map(aligned.groups.map((group) => [group.group, group]));
    const pairs = base.groups.map((group) => {
      const values = (one) => new Map((one?.images ?? []).map(({ image, value }) => [image, value ?? null]));
      const [a, b] = [values(group), values(others.get(group.group))];
      const shared = [...a.keys()].filter((image) => b.has(image)).sort((x, y) => x - y);
      const isScored = (image) => a.get(image) != null && b.get(image) != null;
      const image = shared.find(isScored) ?? shared[0];
      if (image == null) return null;
      return {
        prompt: group.prompt,
        urls: [base.run, aligned.run].map((run) => routes.imageUrl(run, group.group, image)),
        rewards: [a.get(image), b.get(image)],
      };
    });
    return pairs.filter(Boolean);
  }
}
