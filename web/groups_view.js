/** The groups of a run: pictures with their rewards, sorted and filtered; only what is in sight is made. */

import { el, figure, openWindow, throttled } from "./dom.js";
import * as routes from "./routes.js";
import { t } from "./words.js";

const PAGE = 50;
const GAP = 4;
const CELL = 72 + GAP;
const LINE = 96;
const HEAD = 26;
const orders = () => [
  ["spread", t("Largest spread first")],
  ["mean", t("Highest mean first")],
  ["best", t("Highest reward first")],
  ["arrival", t("As they were made")],
  ["prompt", t("By prompt")],
];

/** What a reward says of an image, in words. */
export function inWords(details) {
  if (details == null || typeof details !== "object") return String(details ?? "");
  return Object.entries(details)
    .map(([name, value]) => {
      if (Array.isArray(value)) {
        return `${name}: ${value.map((one) => (typeof one === "object" ? inWords(one) : one)).join("; ")}`;
      }
      if (typeof value === "number") return `${name}: ${figure(value)}`;
      return `${name}: ${typeof value === "object" ? inWords(value) : value}`;
    })
    .join(", ");
}

export class GroupsView {
  constructor(onResize = () => {}) {
    this.onResize = onResize;
    this.place = {};
    this.pages = new Map();
    this.matching = 0;
    this.most = 1;
    const redo = () => {
      this.list.scrollTop = 0;
      this.reload();
    };
    this.order = el(
      "select",
      { "aria-label": t("Order of the groups"), change: redo },
      ...orders().map(([value, text]) => el("option", { value, text })),
    );
    this.scores = el("select", { "aria-label": t("Reward"), change: redo });
    this.least = el("input", {
      type: "number", min: 0, step: 0.05, value: 0, "aria-label": t("Smallest spread"), change: redo,
    });
    this.status = el("p", { class: "gdro-status", text: t("The groups appear here.") });
    this.histogram = el("svg", {
      class: "gdro-histogram", viewBox: "0 0 240 30", preserveAspectRatio: "none", role: "img",
    });
    this.bar = el(
      "div",
      { class: "gdro-bar", hidden: true },
      this.order,
      this.scores,
      el("label", {}, `${t("Spread at least")} `, this.least),
    );
    this.preview = el("img", { class: "gdro-sheet", alt: t("The latest pictures"), hidden: true });
    this.space = el("div", { class: "gdro-space" });
    this.list = el(
      "div",
      {
        class: "gdro-list", role: "list", tabindex: 0, "aria-label": t("Groups"), hidden: true,
        scroll: () => this.#fill(), wheel: (event) => event.stopPropagation(),
      },
      this.space,
    );
    this.details = el("p", { class: "gdro-details", "aria-live": "polite" });
    this.element = el(
      "section",
      { class: "gdro-groups", "aria-label": t("Groups of images") },
      this.status,
      this.bar,
      this.histogram,
      this.preview,
      el("div", { class: "gdro-frame" }, this.list),
      this.details,
    );
    this.refresh = throttled(() => this.reload(), 1500);
    this.resized = throttled(() => this.#fill(), 100);
    new ResizeObserver(() => this.resized()).observe(this.list);
  }

  get height() {
    return this.matching || this.total ? 420 : this.preview.hidden ? 60 : 260;
  }

  async show(place) {
    if (!place.run) return;
    const other = place.run !== this.place.run || place.scores !== this.place.scores;
    this.place = { run: place.run, scores: place.scores };
    if (other) this.chosen = false;
    await this.reload();
  }

  receive(event, detail) {
    if (event === "preview") {
      // Pictures of a run with groups to show are in the list in a moment.
      if (!this.total && detail.picture?.startsWith("data:image/jpeg;base64,")) {
        this.preview.src = detail.picture;
        this.preview.hidden = false;
        this.onResize();
      }
      this.refresh();
    }
    if (event === "rollout") this.refresh();
    if (event === "end") this.reload();
  }

  /** Read the first page again, and then what is in sight. */
  async reload() {
    const { place } = this;
    if (!place.run) return;
    const asked = (this.asked = {});
    let found;
    try {
      found = await this.#page(0);
    } catch (error) {
      if (asked === this.asked) this.status.textContent = error.message;
      return;
    }
    if (asked !== this.asked) return;
    this.pages = new Map([[0, found.groups]]);
    this.total = found.total;
    this.matching = found.matching;
    this.most = Math.max(1, ...found.groups.map((group) => group.images.length));
    this.preview.hidden = true;
    this.bar.hidden = this.list.hidden = !found.total;
    this.#offerScores(found);
    this.#drawHistogram(found);
    const { matching, total, run } = found;
    this.status.textContent =
      matching < total
        ? t("{matching} of {total} groups in {run}", { matching, total, run })
        : t("{total} groups in {run}", { total, run });
    for (const row of [...this.space.children]) row.remove();
    this.onResize();
    this.#fill();
  }

  #page(number) {
    const query = { offset: number * PAGE, limit: PAGE, order: this.order.value };
    query.least_spread = Math.max(0, Number(this.least.value) || 0);
    const scores = this.chosen ? this.scores.value : this.place.scores;
    if (scores) query.scores = scores;
    return routes.readGroups(this.place.run, query);
  }

  #offerScores(found) {
    this.scores.hidden = found.all_scores.length < 2;
    this.scores.replaceChildren(
      ...found.all_scores.map((name) =>
        el("option", { value: name, text: name, selected: name === found.scores }),
      ),
    );
    this.scores.onchange = () => (this.chosen = true);
  }

  #drawHistogram(found) {
    this.histogram.toggleAttribute("hidden", !found.histogram.length);
    this.histogram.style.display = found.histogram.length ? "" : "none";
    if (!found.range) return;
    const tallest = Math.max(...found.histogram, 1);
    const width = 240 / found.histogram.length;
    this.histogram.replaceChildren(
      ...found.histogram.map((count, i) => {
        const height = (count / tallest) * 30;
        return el("rect", { x: i * width, y: 30 - height, width: width - 1, height });
      }),
    );
    const [low, high] = found.range.map(figure);
    const label = t("How often each reward occurs, from {low} to {high}", { low, high });
    this.histogram.setAttribute("aria-label", label);
  }

  /** Make the groups that are in sight, and ask for the pages that they are on. */
  #fill() {
    if (this.list.hidden) return;
    const columns = Math.max(1, Math.floor((this.list.clientWidth - 8 + GAP) / CELL));
    const height = HEAD + Math.ceil(this.most / columns) * LINE;
    this.space.style.height = `${this.matching * height}px`;
    const first = Math.max(0, Math.floor(this.list.scrollTop / height) - 1);
    const last = Math.min(
      this.matching - 1,
      Math.ceil((this.list.scrollTop + this.list.clientHeight) / height) + 1,
    );
    const present = new Map();
    for (const row of [...this.space.children]) {
      const place = Number(row.dataset.place);
      if (place < first || place > last) row.remove();
      else present.set(place, row);
    }
    for (let place = first; place <= last; place++) {
      const page = Math.floor(place / PAGE);
      const group = this.pages.get(page)?.[place % PAGE];
      if (!this.pages.has(page)) this.#fetch(page);
      if (!group) continue;
      let row = present.get(place);
      if (!row) {
        row = this.#row(group, place);
        this.space.append(row);
      }
      row.style.top = `${place * height}px`;
      row.style.height = `${height}px`;
    }
  }

  async #fetch(page) {
    const { asked } = this;
    this.pages.set(page, []);
    try {
      const found = await this.#page(page);
      if (asked !== this.asked) return;
      this.pages.set(page, found.groups);
      this.#fill();
    } catch {
      if (asked === this.asked) this.pages.delete(page);
    }
  }

  #row(group, place) {
    const row = el(
      "div",
      { class: "gdro-group", role: "listitem" },
      el("p", { class: "gdro-prompt", title: group.prompt, text: group.prompt }),
      el("div", { class: "gdro-images" }, ...group.images.map((image) => this.#image(group, image))),
    );
    row.dataset.place = place;
    return row;
  }

  #image(group, image) {
    const value = image.value == null ? "" : figure(image.value);
    const tell = () => {
      this.details.textContent =
        `${group.prompt} · ${t("image {number}", { number: image.image })}` +
        (value ? ` · ${value}` : "") +
        (image.details && Object.keys(image.details).length ? ` · ${inWords(image.details)}` : "");
    };
    const named = { number: image.image, prompt: group.prompt, value };
    const label = value
      ? t("Image {number} of {prompt}, reward {value}", named)
      : t("Image {number} of {prompt}", named);
    return el(
      "button",
      {
        type: "button", class: "gdro-image", "aria-label": label, pointerenter: tell, focus: tell,
        click: () => this.#open(group, image, label),
      },
      el("img", {
        src: routes.imageUrl(this.place.run, group.group, image.image, true),
        alt: "", loading: "lazy", decoding: "async",
      }),
      el("span", { text: value }),
    );
  }

  #open(group, image, label) {
    const url = routes.imageUrl(this.place.run, group.group, image.image);
    const words = inWords(image.details);
    openWindow(
      group.prompt,
      el(
        "div",
        { class: "gdro-large" },
        el("img", { src: url, alt: label }),
        el("p", { text: [label, words].filter(Boolean).join(". ") }),
      ),
    );
  }
}
