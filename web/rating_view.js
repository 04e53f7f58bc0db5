/** Rating by hand, one group at a time: with stars, by picking the best and the worst, or in order. */

import { button, el, throttled } from "./dom.js";
import { formatNumber } from "./format.js";
import { t } from "./i18n.js";
import { ImageWindow, scaled } from "./images.js";
import { cardColumns, extremeControls, makeDraggable, rankControls, starControls } from "./rating_cards.js";
import { keyCommand } from "./rating_keys.js";
import { RatingSession } from "./rating_session.js";
import * as routes from "./routes.js";

const REFRESH = 2000; // milliseconds between two requests while the rollout runs

/** The ways to rate, each with its name and its keys. */
const modes = () => ({
  stars: [t("Stars"), t("1–5 rate · 0 clear")],
  extremes: [t("Best and worst"), t("B best · W worst")],
  order: [t("Order"), t("drag, or Shift+←→ to move · Enter keeps the order")],
});

export class RatingView {
  /** Its node also gets the messages of a rollout that it is linked to. */
  static followsRollout = true;

  /**
   * @param {object} callbacks
   * @param {() => void} callbacks.onResize called when the view needs another height
   * @param {() => void} callbacks.onChange called when a rating changed
   * @param {() => number|null} callbacks.neededGroups how many groups a training needs
   */
  constructor({ onResize = () => {}, onChange = () => {}, neededGroups = () => null } = {}) {
    Object.assign(this, { onResize, onChange, neededGroups });
    this.status = el("p", {
      class: "gdro-status", "aria-live": "polite", text: t("Groups to rate appear here."),
    });
    this.progress = el("progress", { max: 1, value: 0, "aria-label": t("Groups rated") });
    this.blind = el("input", { type: "checkbox", checked: true, change: () => this.#draw() });
    this.mode = el(
      "select",
      { "aria-label": t("How to rate"), change: () => this.#draw() },
      ...Object.entries(modes()).map(([value, [text]]) => el("option", { value, text })),
    );
    this.keepButton = button(t("Keep order"), () => this.#keepOrder());
    this.bar = el(
      "div",
      { class: "gdro-bar", hidden: true },
      this.mode,
      button(t("‹ Group"), () => this.#act((session) => session.stepGroup(-1))),
      button(t("Group ›"), () => this.#act((session) => session.stepGroup(1))),
      button(t("Next unrated"), () => this.#act((session) => session.goToUnrated())),
      button(t("Undo"), () => this.#act((session) => session.undo())),
      this.keepButton,
      el("label", { title: t("Hide image numbers and scores") }, this.blind, ` ${t("Blind")}`),
      this.progress,
    );
    this.prompt = el("p", { class: "gdro-prompt" });
    this.cards = el("div", { class: "gdro-cards", role: "group", "aria-label": t("Pictures to rate") });
    new ResizeObserver(() => this.#arrange()).observe(this.cards);
    this.hint = el("p", { class: "gdro-faint", hidden: true });
    this.element = el(
      "section",
      {
        class: "gdro-rating", "aria-label": t("Rating"), tabindex: 0,
        keydown: (event) => this.#onKey(event),
        "gdro-undo": () => this.session.group && this.#act((session) => session.undo()),
      },
      this.status,
      this.bar,
      this.prompt,
      this.cards,
      this.hint,
    );
    this.window = null; // with the current image at full size
    this.refresh = throttled(() => this.load(), REFRESH);
    this.#startSession("");
  }

  get height() {
    return this.session.groups.length ? 440 : 60;
  }

  async show({ run }) {
    if (!run) return;
    const isNew = run !== this.session.run;
    if (isNew) this.#startSession(run);
    await this.load();
    if (isNew) this.#act((session) => session.goToUnrated());
  }

  /** Take a message of the server: "rollout", "preview" or "end". */
  receive(event) {
    if (["rollout", "preview", "end"].includes(event)) this.refresh();
  }

  async load() {
    const { session } = this;
    if (!session.run) return;
    try {
      await session.load();
    } catch (error) {
      if (session === this.session) this.status.textContent = error.message;
      return;
    }
    if (session === this.session) this.#draw();
  }

  #startSession(run) {
    this.session = new RatingSession(run, () => this.onChange(), () => this.#showStatus());
    this.drawn = null; // what the cards show
  }

  /** Do something in the session, and show what has become of it. */
  #act(action) {
    action(this.session);
    this.#draw();
  }

  /** Return the indices of the group's images in the order in which they are shown. */
  #shownOrder() {
    const { session } = this;
    if (this.mode.value === "order") return session.order(session.group);
    return session.group.images.map((_, index) => index);
  }

  #stepImage(distance) {
    const order = this.#shownOrder();
    const position = order.indexOf(this.session.imageIndex) + distance;
    this.#goTo(order[(position + order.length) % order.length]);
  }

  #goTo(imageIndex) {
    this.#act((session) => session.goTo(session.groupIndex, imageIndex));
  }

  /** Rate the current image and go to the next one, or after the last to the next unrated group. */
  #rateAndAdvance(star) {
    this.#act((session) => {
      session.rate(session.imageIndex, star);
      if (star == null) return;
      const next = session.imageIndex + 1;
      if (next < session.group.images.length) session.goTo(session.groupIndex, next);
      else if (session.isComplete(session.group)) session.goToUnrated();
    });
  }

  #pick(imageIndex, extreme) {
    this.#act((session) => {
      session.pick(imageIndex, extreme);
      if (session.isComplete(session.group)) session.goToUnrated();
    });
  }

  #move(imageIndex, position) {
    this.#act((session) => session.move(imageIndex, position));
  }

  #keepOrder() {
    this.#act((session) => {
      session.keepOrder();
      session.goToUnrated();
    });
  }

  #onKey(event) {
    if (!this.session.group || event.ctrlKey || event.metaKey || event.altKey) return;
    const inSelect = event.target instanceof HTMLSelectElement;
    const onButton = event.target instanceof HTMLButtonElement || event.target === this.blind;
    if (inSelect || (onButton && ["Enter", " "].includes(event.key))) return;
    const command = keyCommand(event, this.mode.value);
    if (command) {
      this.#execute(...command);
      event.preventDefault();
      // The element that was clicked may be gone now.
      if (!this.window && this.element.isConnected) this.element.focus({ preventScroll: true });
    }
    // A letter without a meaning here may have one for the graph, such as deleting this node.
    if (command || event.key.length === 1) event.stopPropagation();
  }

  #execute(command, argument) {
    const { imageIndex } = this.session;
    const commands = {
      image: () => this.#stepImage(argument),
      group: () => this.#act((session) => session.stepGroup(argument)),
      undo: () => this.#act((session) => session.undo()),
      enlarge: () => this.#toggleWindow(),
      star: () => this.#rateAndAdvance(argument),
      pick: () => this.#pick(imageIndex, argument),
      move: () => this.#move(imageIndex, this.#shownOrder().indexOf(imageIndex) + argument),
      keepOrder: () => this.#keepOrder(),
    };
    commands[command]();
  }

  /** Open the current image in a window, where the same keys work, or close it. */
  #toggleWindow() {
    if (this.window) return this.window.dialog.close();
    this.window = new ImageWindow(t("Large picture"), () => {
      this.window = null;
      this.element.focus();
    });
    this.window.dialog.addEventListener("keydown", (event) => this.#onKey(event));
    this.#drawWindow();
  }

  #drawWindow() {
    const { run, group, imageIndex } = this.session;
    const url = routes.imageUrl(run, group.group, group.images[imageIndex].image);
    this.window?.show(group.prompt, url, this.#caption(group, imageIndex));
  }

  #caption(group, index) {
    const { isRanked, values } = this.session.rating(group);
    const texts = { picture: t("Picture {number}", { number: index + 1 }), rating: values[index] };
    if (texts.rating == null) return t("{picture}, not rated", texts);
    return isRanked ? t("{picture}, ranked {rating}", texts) : t("{picture}, rated {rating}", texts);
  }

  #showStatus() {
    const { groups, groupIndex, problem } = this.session;
    const { length: total } = groups;
    const { rated, equal } = this.session.counts();
    const needed = this.neededGroups();
    this.progress.max = total || 1;
    this.progress.value = rated;
    const parts = total
      ? [
          t("{done} of {total} groups rated", { done: rated, total }),
          t("group {number}", { number: groupIndex + 1 }),
        ]
      : [t("Groups to rate appear here.")];
    if (rated < needed && needed <= total) parts.push(t("{count} needed to train", { count: needed }));
    if (equal) parts.push(t("{count} with equal ratings, which teach nothing", { count: equal }));
    if (problem) parts.push(problem);
    const text = parts.join(" · ");
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  #draw() {
    const { session } = this;
    const { group, imageIndex } = session;
    this.bar.hidden = this.hint.hidden = this.prompt.hidden = this.cards.hidden = !group;
    this.#showStatus();
    if (!group) return this.onResize();
    const mode = this.mode.value;
    // Cards that someone looks at are not created anew when more groups arrive.
    const state = [group, session.rating(group), mode, imageIndex, this.blind.checked];
    const drawn = JSON.stringify(state);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const keys = t("←→ picture · ↑↓ group · U undo · S skip · Z large");
    this.hint.textContent = `${modes()[mode][1]} · ${keys}`;
    this.keepButton.hidden = mode !== "order";
    this.prompt.textContent = this.prompt.title = group.prompt;
    const hadFocus = this.cards.contains(document.activeElement);
    this.cards.replaceChildren(
      ...this.#shownOrder().map((index, position) => this.#card(group, index, position)),
    );
    if (hadFocus) this.element.focus({ preventScroll: true });
    if (this.window) this.#drawWindow();
    this.onResize();
    this.#arrange();
  }

  /** Make the cards as large as the panel allows, with the number in a row that fits all of them. */
  #arrange() {
    const { clientWidth: width, clientHeight: height } = this.cards;
    const image = this.cards.querySelector("img");
    if (!image || !width) return;
    const aspect = image.naturalWidth ? image.naturalWidth / image.naturalHeight : 1;
    const columns = cardColumns(this.cards.children.length, width, height, aspect);
    this.cards.style.setProperty("--gdro-columns", columns);
    this.cards.style.setProperty("--gdro-aspect", aspect);
  }

  #card(group, index, position) {
    const { session } = this;
    const { image, value } = group.images[index];
    const score = value == null ? "" : ` · ${formatNumber(value)}`;
    const card = el(
      "div",
      { class: `gdro-card${index === session.imageIndex ? " gdro-current" : ""}` },
      scaled(
        el("img", {
          src: routes.imageUrl(session.run, group.group, image),
          alt: this.#caption(group, index), draggable: "false",
          click: () => this.#goTo(index), dblclick: () => this.#toggleWindow(),
          load: () => this.#arrange(),
        }),
      ),
      this.#controls(group, index, position),
      el("span", { class: "gdro-faint", text: `${image}${score}`, hidden: this.blind.checked }),
    );
    if (this.mode.value === "order") {
      makeDraggable(card, index, (dragged) => this.#move(dragged, position));
    }
    return card;
  }

  #controls(group, index, position) {
    const { session } = this;
    const name = t("Picture {number}", { number: index + 1 });
    switch (this.mode.value) {
      case "stars":
        return starControls(name, session.stars(group)[index], (star) =>
          this.#act(() => session.rate(index, star)),
        );
      case "extremes":
        return extremeControls(name, index, session.extremes(group), (extreme) =>
          this.#pick(index, extreme),
        );
      default:
        return rankControls(name, position + 1, session.rating(group).isRanked, (distance) =>
          this.#move(index, position + distance),
        );
    }
  }
}
