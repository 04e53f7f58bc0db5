/** Rating by hand, a group at a time: with stars, by picking the best and the worst, or in order. */

import { el, figure, openWindow, throttled } from "./dom.js";
import { ends, makeDraggable, position, stars } from "./rating_cards.js";
import { RatingSession } from "./rating_session.js";
import * as routes from "./routes.js";
import { t } from "./words.js";

/** The ways to rate: a name and the keys of each. */
const modes = () => ({
  stars: [t("Stars"), t("1–5 rate · 0 clear")],
  ends: [t("Best and worst"), t("B best · W worst")],
  order: [t("Order"), t("drag, or Shift+←→ to move · Enter keeps the order")],
});

export class RatingView {
  /** Its node shows what a rollout before it draws, while it draws. */
  static follows = true;

  constructor(onResize = () => {}) {
    this.onResize = onResize;
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
    const button = (text, click) => el("button", { type: "button", text, click });
    this.keep = button(t("Keep order"), () => this.#keep());
    this.bar = el(
      "div",
      { class: "gdro-bar", hidden: true },
      this.mode,
      button(t("‹ Group"), () => this.#go(-1)),
      button(t("Group ›"), () => this.#go(1)),
      button(t("Next unrated"), () => this.#unrated()),
      button(t("Undo"), () => this.#undo()),
      this.keep,
      el("label", { title: t("Hides numbers and scores") }, this.blind, ` ${t("Blind")}`),
      this.progress,
    );
    this.prompt = el("p", { class: "gdro-prompt" });
    this.cards = el("div", { class: "gdro-cards", role: "group", "aria-label": t("Pictures to rate") });
    this.hint = el("p", { class: "gdro-faint", hidden: true });
    this.element = el(
      "section",
      {
        class: "gdro-rating", "aria-label": t("Rating"), tabindex: 0, keydown: (event) => this.#key(event),
      },
      this.status,
      this.bar,
      this.prompt,
      this.cards,
      this.hint,
    );
    this.refresh = throttled(() => this.load(), 2000);
    this.#open("");
  }

  get height() {
    return this.session.groups.length ? 440 : 60;
  }

  #open(run) {
    this.session = new RatingSession(run, () => this.#say());
    this.group = this.picture = 0;
    this.drawn = null;
  }

  async show(place) {
    if (!place.run) return;
    const other = place.run !== this.session.run;
    if (other) this.#open(place.run);
    await this.load();
    if (other) this.#unrated();
  }

  receive(event) {
    if (event === "end" || event === "rollout" || event === "preview") this.refresh();
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

  #go(by) {
    const { length } = this.session.groups;
    if (!length) return;
    this.group = (this.group + by + length) % length;
    this.picture = 0;
    this.#draw();
  }

  #unrated() {
    const { groups } = this.session;
    for (let far = 0; far < groups.length; far++) {
      const place = (this.group + far) % groups.length;
      if (!this.session.isDone(groups[place])) {
        this.group = place;
        this.picture = 0;
        break;
      }
    }
    this.#draw();
  }

  #undo() {
    const last = this.session.undo();
    if (last) {
      this.group = last.place;
      this.picture = last.picture;
    }
    this.#draw();
  }

  #star(picture, star) {
    this.session.rate(this.group, picture, star);
    this.#choose(picture);
  }

  #pick(picture, end) {
    this.session.pick(this.group, picture, end);
    if (this.session.isDone(this.session.groups[this.group])) this.#unrated();
    else this.#choose(picture);
  }

  /** Put a picture before (or behind) another one in the order. */
  #move(picture, at) {
    const order = this.session.order(this.session.groups[this.group]);
    if (at < 0 || at >= order.length || !order.includes(picture)) return;
    order.splice(order.indexOf(picture), 1);
    order.splice(at, 0, picture);
    this.session.rank(this.group, picture, order);
    this.#choose(picture);
  }

  #keep() {
    const group = this.session.groups[this.group];
    this.session.rank(this.group, this.picture, this.session.order(group));
    this.#unrated();
  }

  /** Places of the group's pictures as they are shown. */
  #shown() {
    const group = this.session.groups[this.group];
    return this.mode.value === "order" ? this.session.order(group) : group.images.map((_, i) => i);
  }

  #step(by) {
    const shown = this.#shown();
    const next = shown.indexOf(this.picture) + by;
    this.#choose(shown[(next + shown.length) % shown.length]);
  }

  #key(event) {
    if (!this.session.groups.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const inField = event.target instanceof HTMLSelectElement;
    const onButton = event.target instanceof HTMLButtonElement || event.target === this.blind;
    if (inField || (onButton && ["Enter", " "].includes(event.key))) return;
    const action = this.#action(event);
    if (action) {
      action();
      event.preventDefault();
      // What was clicked may be gone now.
      if (!this.large && this.element.isConnected) this.element.focus({ preventScroll: true });
    }
    // A letter that means nothing here would mean something to the graph, such as deleting this node.
    if (action || event.key.length === 1) event.stopPropagation();
  }

  #action(event) {
    const { picture } = this;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const move = (by) => () => this.#move(picture, this.#shown().indexOf(picture) + by);
    const common = {
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      ArrowUp: () => this.#go(-1),
      ArrowDown: () => this.#go(1),
      Enter: () => this.#go(1),
      s: () => this.#go(1),
      u: () => this.#undo(),
      z: () => this.#large(),
    };
    const clear = () => this.#star(picture, null);
    const own = {
      stars: { 0: clear, Delete: clear, Backspace: clear },
      ends: { b: () => this.#pick(picture, "best"), w: () => this.#pick(picture, "worst") },
      order: {
        Enter: () => this.#keep(),
        ...(event.shiftKey ? { ArrowLeft: move(-1), ArrowRight: move(1) } : {}),
      },
    }[this.mode.value];
    const star = Number(key);
    if (this.mode.value === "stars" && star >= 1 && star <= 5) return () => this.#starAndGoOn(star);
    return own[key] ?? common[key];
  }

  #starAndGoOn(star) {
    const group = this.session.groups[this.group];
    this.#star(this.picture, star);
    if (this.picture + 1 < group.images.length) this.#choose(this.picture + 1);
    else if (this.session.isDone(group)) this.#unrated();
  }

  #choose(picture) {
    this.picture = picture;
    this.#draw();
  }

  /** The chosen picture in a window, where the same keys work. */
  #large() {
    if (this.large) return this.large.close();
    const content = el("div", { class: "gdro-large" });
    this.large = openWindow(t("Large picture"), content, () => {
      this.large = null;
      this.element.focus();
    });
    this.large.addEventListener("keydown", (event) => this.#key(event));
    this.large.content = content;
    this.#draw(true);
  }

  #drawLarge(group) {
    const { image } = group.images[this.picture];
    const name = this.#named(group, this.picture);
    this.large.querySelector("h2").textContent = group.prompt;
    this.large.content.replaceChildren(
      el("img", { src: routes.imageUrl(this.session.run, group.group, image), alt: name }),
      el("p", { text: name }),
    );
  }

  /** A picture and what it was given, in words. */
  #named(group, place) {
    const { ranked, numbers } = this.session.of(group);
    const values = {
      picture: t("Picture {number}", { number: place + 1 }), rating: numbers[place],
    };
    if (numbers[place] == null) return t("{picture}, not rated", values);
    return ranked ? t("{picture}, number {rating}", values) : t("{picture}, rated {rating}", values);
  }

  #say() {
    const { groups, problem } = this.session;
    const done = groups.filter((group) => this.session.counts(group)).length;
    const alike = groups.filter((g) => this.session.isDone(g) && !this.session.counts(g)).length;
    this.progress.max = groups.length || 1;
    this.progress.value = done;
    const parts = [t("{done} of {total} groups rated", { done, total: groups.length })];
    if (groups.length) parts.push(t("group {number}", { number: this.group + 1 }));
    if (alike) parts.push(t("{alike} all alike, which teach nothing", { alike }));
    if (problem) parts.push(problem);
    const text = parts.join(" · ");
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  #draw(again = false) {
    const { session } = this;
    const group = session.groups[this.group];
    this.bar.hidden = this.hint.hidden = !group;
    this.#say();
    if (!group) return;
    const mode = this.mode.value;
    // Pictures that are looked at are not made anew when more groups arrive.
    const now = JSON.stringify([group, session.of(group), mode, this.picture, this.blind.checked]);
    if (now === this.drawn && !again) return;
    this.drawn = now;
    const keys = t("←→ picture · ↑↓ group · U undo · S skip · Z large");
    this.hint.textContent = `${modes()[mode][1]} · ${keys}`;
    this.keep.hidden = mode !== "order";
    this.prompt.textContent = this.prompt.title = group.prompt;
    const focused = this.cards.contains(document.activeElement);
    this.cards.replaceChildren(
      ...this.#shown().map((place, at) => this.#card(group, place, at, mode)),
    );
    if (focused) this.element.focus({ preventScroll: true });
    if (this.large) this.#drawLarge(group);
    this.onResize();
  }

  #card(group, place, at, mode) {
    const { image, value } = group.images[place];
    const name = t("Picture {number}", { number: place + 1 });
    const score = value == null ? "" : ` · ${figure(value)}`;
    const { session } = this;
    const controls = {
      stars: () =>
        stars(name, session.stars(group)[place], (star) => this.#star(place, star)),
      ends: () => ends(name, place, session.ends(group), (end) => this.#pick(place, end)),
      order: () =>
        position(name, at, session.of(group).ranked, (by) => this.#move(place, at + by)),
    }[mode]();
    const card = el(
      "div",
      { class: `gdro-card${place === this.picture ? " gdro-now" : ""}` },
      el("img", {
        src: routes.imageUrl(session.run, group.group, image),
        alt: this.#named(group, place), draggable: "false",
        click: () => this.#choose(place), dblclick: () => this.#large(),
      }),
      controls,
      el("span", { class: "gdro-faint", text: `${image}${score}`, hidden: this.blind.checked }),
    );
    if (mode === "order") {
      makeDraggable(card, place, (dragged) => this.#move(dragged, at));
    }
    return card;
  }
}
