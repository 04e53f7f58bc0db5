/** The groups of a run: images with their rewards, sorted and filtered. Only visible rows exist. */

import { button, el, throttled } from "./dom.js";
import { formatNumber } from "./format.js";
import { t } from "./i18n.js";
import { ImageWindow, Preview, scaled } from "./images.js";
import * as routes from "./routes.js";

const PAGE = 50; // groups in one request
const REFRESH = 1500; // milliseconds between two requests while a node runs
// Sizes in pixels, as in gdro.css.
const PADDING = 8;
const GAP = 4;
const IMAGE_WIDTH = 72;
const IMAGE_HEIGHT = 96;
const PROMPT_HEIGHT = 26;
const HISTOGRAM = { width: 240, height: 30 };

const SCORE_ORDERS = ["spread", "mean", "best"];
/** The orders by what the server calls them; without scores, those of the scores are not offered. */
const orders = () => [
  ["spread", t("Largest spread first")],
  ["mean", t("Highest mean first")],
  ["best", t("Highest reward first")],
  ["latest", t("Newest first")],
  ["arrival", t("Oldest first")],
  ["prompt", t("By prompt")],
];

/** Return a reward's details of an image as text. */
function describe(details) {
  if (details == null || typeof details !== "object") return String(details ?? "");
  return Object.entries(details)
    .map(([name, value]) => {
      if (Array.isArray(value)) {
        const items = value.map((item) => (typeof item === "object" ? describe(item) : item));
        return `${name}: ${items.join("; ")}`;
      }
      if (typeof value === "number") return `${name}: ${formatNumber(value)}`;
      return `${name}: ${typeof value === "object" ? describe(value) : value}`;
    })
    .join(", ");
}

export class GroupsView {
  /** @param {{onResize?: () => void}} callbacks called when the view needs another height */
  constructor({ onResize = () => {} } = {}) {
    this.onResize = onResize;
    this.location = {};
    this.chosenOrder = null;
    this.chosenScores = null;
    this.version = 0; // of the list; an answer to an older request is dropped
    this.pages = new Map(); // page number -> groups; an empty list while they are requested
    this.rows = new Map(); // group id -> {content, element} of the rows on the page
    this.total = 0;
    this.matching = 0;
    this.largestGroup = 1;
    this.order = el(
      "select",
      {
        "aria-label": t("Sort groups"),
        change: () => {
          this.chosenOrder = this.order.value;
          this.#restart();
        },
      },
      ...orders().map(([value, text]) => el("option", { value, text })),
    );
    this.scores = el("select", {
      "aria-label": t("Reward"),
      change: () => {
        this.chosenScores = this.scores.value;
        this.#restart();
      },
    });
    this.leastSpread = el("input", {
      type: "number", min: 0, step: 0.05, value: 0, change: () => this.#restart(),
    });
    this.spreadFilter = el("label", {}, `${t("Minimum spread")} `, this.leastSpread);
    this.status = el("p", { class: "gdro-status", text: t("The groups appear here.") });
    this.histogram = el("svg", {
      class: "gdro-histogram", role: "img", preserveAspectRatio: "none", hidden: true,
      viewBox: `0 0 ${HISTOGRAM.width} ${HISTOGRAM.height}`,
    });
    this.bar = el(
      "div", { class: "gdro-bar", hidden: true }, this.order, this.scores, this.spreadFilter,
    );
    this.preview = new Preview();
    this.space = el("div", { class: "gdro-space" });
    this.list = el(
      "div",
      {
        class: "gdro-list", role: "list", tabindex: 0, "aria-label": t("Groups"), hidden: true,
        scroll: () => this.#fill(), wheel: (event) => event.stopPropagation(),
        keydown: (event) => this.#onKey(event),
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
      this.preview.element,
      el("div", { class: "gdro-frame" }, this.list),
      this.details,
    );
    this.refresh = throttled(() => this.reload(), REFRESH);
    const onListResize = throttled(() => this.#fill(), 100);
    new ResizeObserver(onListResize).observe(this.list);
  }

  get height() {
    if (this.total) return 420;
    return this.preview.hidden ? 60 : 260;
  }

  async show(location) {
    if (!location.run) return;
    const { run, scores } = location;
    if (run !== this.location.run || scores !== this.location.scores) this.chosenScores = null;
    this.location = { run, scores };
    await this.reload();
  }

  /** Take a message of the server: "location", "rollout", "preview", "progress" or "end". */
  receive(event, message) {
    if (event === "preview") {
      // Once there is a list, the images of the preview are about to appear in it.
      if (!this.total) this.preview.show(message, this.location.run);
      this.onResize();
    }
    if (["rollout", "preview", "progress"].includes(event)) this.refresh();
    if (event === "end") return this.reload();
  }

  /** Request the first page again, and then the pages that are in sight. */
  async reload() {
    if (!this.location.run) return;
    const version = ++this.version;
    let answer;
    try {
      answer = await this.#request(0);
    } catch (error) {
      if (version === this.version) this.status.textContent = error.message;
      return;
    }
    if (version !== this.version) return;
    const { groups, matching, total, run } = answer;
    this.pages = new Map([[0, groups]]);
    this.total = total;
    this.matching = matching;
    this.largestGroup = Math.max(1, ...groups.map((group) => group.images.length));
    if (total) this.preview.hide(run);
    else this.preview.recall(run);
    this.bar.hidden = this.list.hidden = !total;
    this.#offerScores(answer);
    this.#drawHistogram(answer);
    this.status.textContent = !total
      ? t("No pictures in {run} yet", { run })
      : matching < total
        ? t("{matching} of {total} groups in {run}", { matching, total, run })
        : t("{total} groups in {run}", { total, run });
    this.onResize();
    this.#fill();
  }

  #restart() {
    this.list.scrollTop = 0;
    this.reload();
  }

  #request(page) {
    const query = {
      offset: page * PAGE,
      limit: PAGE,
      order: this.chosenOrder ?? "spread",
      least_spread: Math.max(0, Number(this.leastSpread.value) || 0),
    };
    const scores = this.chosenScores ?? this.location.scores;
    if (scores) query.scores = scores;
    return routes.readGroups(this.location.run, query);
  }

  #offerScores({ scores, all_scores: all }) {
    this.scores.hidden = all.length < 2;
    this.scores.replaceChildren(
      ...all.map((name) => el("option", { value: name, text: name, selected: name === scores })),
    );
    this.spreadFilter.hidden = !scores;
    for (const option of this.order.options) {
      option.hidden = option.disabled = !scores && SCORE_ORDERS.includes(option.value);
    }
    const order = this.chosenOrder ?? "spread";
    // This is what the server does too.
    this.order.value = !scores && SCORE_ORDERS.includes(order) ? "latest" : order;
  }

  #drawHistogram({ histogram, range }) {
    this.histogram.toggleAttribute("hidden", !range);
    if (!range) return;
    const tallest = Math.max(...histogram, 1);
    const width = HISTOGRAM.width / histogram.length;
    this.histogram.replaceChildren(
      ...histogram.map((count, bin) => {
        const height = (count / tallest) * HISTOGRAM.height;
        return el("rect", { x: bin * width, y: HISTOGRAM.height - height, width: width - 1, height });
      }),
    );
    const [low, high] = range.map(formatNumber);
    const label = t("Histogram of the rewards, from {low} to {high}", { low, high });
    this.histogram.setAttribute("aria-label", label);
  }

  /** Put the rows that are in sight on the page, and request the pages that lack. */
  #fill() {
    if (this.list.hidden) return;
    const width = this.list.clientWidth - PADDING;
    const columns = Math.max(1, Math.floor((width + GAP) / (IMAGE_WIDTH + GAP)));
    // What is left beside the last column makes the images larger.
    const side = Math.max(IMAGE_WIDTH, Math.floor((width + GAP) / columns) - GAP);
    this.space.style.setProperty("--gdro-side", `${side}px`);
    const rowHeight = side + IMAGE_HEIGHT - IMAGE_WIDTH;
    const height = PROMPT_HEIGHT + Math.ceil(this.largestGroup / columns) * rowHeight;
    this.space.style.height = `${this.matching * height}px`;
    const { scrollTop, clientHeight } = this.list;
    const first = Math.max(0, Math.floor(scrollTop / height) - 1);
    const last = Math.min(this.matching - 1, Math.ceil((scrollTop + clientHeight) / height) + 1);
    const rows = new Map();
    for (let index = first; index <= last; index++) {
      const page = Math.floor(index / PAGE);
      if (!this.pages.has(page)) this.#fetch(page);
      const group = this.pages.get(page)[index % PAGE];
      if (!group) continue;
      const row = this.#row(group);
      row.element.style.top = `${index * height}px`;
      row.element.style.height = `${height}px`;
      rows.set(group.group, row);
    }
    for (const [id, row] of this.rows) {
      if (rows.get(id) !== row) row.element.remove();
    }
    // A row that is in its place is not moved: it may have the focus.
    let next = this.space.firstChild;
    for (const { element } of rows.values()) {
      if (element === next) next = next.nextSibling;
      else this.space.insertBefore(element, next);
    }
    this.rows = rows;
  }

  /** Go from image to image with the arrows, and from group to group. */
  #onKey(event) {
    const distance = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const direction = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const images = [...this.space.querySelectorAll(".gdro-image")];
    const index = images.indexOf(event.target);
    if (index < 0 ? !distance : !distance && !direction) return;
    event.preventDefault();
    if (index < 0) return images[0]?.focus();
    if (distance) return images[index + distance]?.focus();
    const row = event.target.closest(".gdro-group");
    const rows = [...this.space.querySelectorAll(".gdro-group")];
    rows[rows.indexOf(row) + direction]?.querySelector(".gdro-image")?.focus();
  }

  async #fetch(page) {
    const { version } = this;
    this.pages.set(page, []);
    try {
      const { groups } = await this.#request(page);
      if (version !== this.version) return;
      this.pages.set(page, groups);
      this.#fill();
    } catch {
      // It is requested again when the list is scrolled.
      if (version === this.version) this.pages.delete(page);
    }
  }

  /** Return the row of a group; the one on the page stays as long as its content is the same. */
  #row(group) {
    const content = JSON.stringify([this.location.run, group]);
    const present = this.rows.get(group.group);
    if (present?.content === content) return present;
    const element = el(
      "div",
      { class: "gdro-group", role: "listitem" },
      el("p", { class: "gdro-prompt", title: group.prompt, text: group.prompt }),
      el("div", { class: "gdro-images" }, ...group.images.map((image) => this.#image(group, image))),
    );
    return { content, element };
  }

  #image(group, image) {
    const { run } = this.location;
    const { image: number, value, details } = image;
    const reward = value == null ? "" : formatNumber(value);
    const values = { number, prompt: group.prompt, value: reward };
    const label = reward
      ? t("Image {number} of {prompt}, reward {value}", values)
      : t("Image {number} of {prompt}", values);
    const showDetails = () => {
      const parts = [group.prompt, t("image {number}", values), reward, describe(details)];
      this.details.textContent = parts.filter(Boolean).join(" · ");
    };
    const open = () => {
      const caption = [label, describe(details)].filter(Boolean).join(". ");
      const url = routes.imageUrl(run, group.group, number);
      new ImageWindow(group.prompt).show(group.prompt, url, caption);
    };
    const element = button("", open, {
      class: "gdro-image", "aria-label": label, pointerenter: showDetails, focus: showDetails,
    });
    element.append(
      scaled(
        el("img", {
          src: routes.thumbnailUrl(run, group.group, number), alt: "", loading: "lazy",
          decoding: "async",
        }),
      ),
      el("span", { text: reward }),
    );
    return element;
  }
}
