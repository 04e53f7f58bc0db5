/**
 * Rating by hand: one group at a time, stars under each picture, saved on the server with every star.
 *
 * Keys: 1 to 5 rate the chosen picture and go on to the next, 0 takes its rating away, left and right
 * choose a picture, up and down (or Enter) a group, U undoes, S skips the group, Z shows it large.
 */

import { el, figure, openWindow, throttled } from "./dom.js";
import * as routes from "./routes.js";
import { t } from "./words.js";

const PAGE = 200;

export class RatingView {
  constructor(onResize = () => {}) {
    this.onResize = onResize;
    this.status = el("p", {
      class: "gdro-status", "aria-live": "polite", text: t("Groups to rate appear here."),
    });
    this.progress = el("progress", { max: 1, value: 0, "aria-label": t("Groups rated") });
    this.blind = el("input", { type: "checkbox", checked: true, change: () => this.#draw() });
    const button = (text, click) => el("button", { type: "button", text, click });
    this.bar = el(
      "div",
      { class: "gdro-bar", hidden: true },
      button(t("‹ Group"), () => this.#go(-1)),
      button(t("Group ›"), () => this.#go(1)),
      button(t("Next unrated"), () => this.#unrated()),
      button(t("Undo"), () => this.#undo()),
      el("label", { title: t("Hides numbers and scores") }, this.blind, ` ${t("Blind")}`),
      this.progress,
    );
    this.prompt = el("p", { class: "gdro-prompt" });
    this.cards = el("div", { class: "gdro-cards", role: "group", "aria-label": t("Pictures to rate") });
    this.hint = el("p", {
      class: "gdro-faint", hidden: true,
      text: t("1–5 rate · 0 clear · ←→ picture · ↑↓ group · U undo · S skip · Z large"),
    });
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
    this.#forget();
  }

  get height() {
    return this.groups.length ? 440 : 60;
  }

  #forget() {
    this.groups = [];
    this.ratings = {};
    this.place = {};
    this.group = this.picture = 0;
    this.past = [];
    this.saving = Promise.resolve();
  }

  async show(place) {
    if (!place.run) return;
    if (place.run !== this.place.run) {
      this.#forget();
      this.place = { run: place.run };
      await this.load();
      this.#unrated();
    } else {
      await this.load();
    }
  }

  receive(event) {
    if (event === "end" || event === "rollout" || event === "preview") this.refresh();
  }

  /** Read groups and ratings; those that came meanwhile are added behind the others. */
  async load() {
    const { place } = this;
    const known = new Map(this.groups.map((group) => [group.group, group]));
    try {
      await this.saving;
      const saved = await routes.readRatings(place.run);
      for (let offset = 0, total = 1; offset < total; offset += PAGE) {
        const found = await routes.readGroups(place.run, { offset, limit: PAGE, order: "arrival" });
        total = found.total;
        for (const group of found.groups) known.set(group.group, group);
      }
      if (place !== this.place) return;
      this.ratings = saved.ratings;
    } catch (error) {
      this.status.textContent = error.message;
      return;
    }
    this.groups = [...known.values()].filter((group) => group.images.length > 1);
    this.#draw();
  }

  #images(group) {
    return [...group.images].sort((a, b) => a.image - b.image);
  }

  #of(group) {
    const given = this.ratings[group.group] ?? [];
    return this.#images(group).map((_, i) => given[i] ?? null);
  }

  #done(group) {
    return this.#of(group).every((rating) => rating != null);
  }

  #go(by) {
    const { length } = this.groups;
    if (!length) return;
    this.group = (this.group + by + length) % length;
    this.picture = 0;
    this.#draw();
  }

  #unrated() {
    const { length } = this.groups;
    for (let far = 0; far < length; far++) {
      const place = (this.group + far) % length;
      if (!this.#done(this.groups[place])) {
        this.group = place;
        this.picture = 0;
        break;
      }
    }
    this.#draw();
  }

  #rate(picture, rating) {
    const group = this.groups[this.group];
    const before = this.#of(group);
    const after = [...before];
    after[picture] = rating;
    this.past.push({ place: this.group, picture, group: group.group, ratings: before });
    this.#save(group.group, after);
  }

  #undo() {
    const last = this.past.pop();
    if (!last) return;
    this.group = last.place;
    this.picture = last.picture;
    this.#save(last.group, last.ratings);
  }

  #save(group, ratings) {
    const { run } = this.place;
    this.ratings = { ...this.ratings, [group]: ratings };
    this.saving = this.saving
      .then(() => routes.writeRatings(run, group, ratings))
      .then(
        () => (this.problem = null),
        (error) => {
          this.problem = t("not saved: {reason}", { reason: error.message });
          this.#say();
        },
      );
    this.#draw();
  }

  #key(event) {
    if (!this.groups.length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["Enter", " "].includes(event.key) && event.target !== this.element) return;
    const { length } = this.groups[this.group].images;
    const rating = Number(event.key);
    const actions = {
      ArrowLeft: () => this.#choose((this.picture + length - 1) % length),
      ArrowRight: () => this.#choose((this.picture + 1) % length),
      ArrowUp: () => this.#go(-1),
      ArrowDown: () => this.#go(1),
      Enter: () => this.#go(1),
      s: () => this.#go(1),
      u: () => this.#undo(),
      z: () => this.#large(),
      0: () => this.#rate(this.picture, null),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (rating >= 1 && rating <= 5) {
      this.#rate(this.picture, rating);
      if (this.picture + 1 < length) this.#choose(this.picture + 1);
      else if (this.#done(this.groups[this.group])) this.#unrated();
    } else if (actions[key]) {
      actions[key]();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    if (this.element.isConnected) this.element.focus({ preventScroll: true });
  }

  #choose(picture) {
    this.picture = picture;
    this.#draw();
  }

  #large() {
    const group = this.groups[this.group];
    const image = this.#images(group)[this.picture];
    const url = routes.imageUrl(this.place.run, group.group, image.image);
    const named = { number: this.picture + 1, prompt: group.prompt };
    const picture = el("img", { src: url, alt: t("Picture {number} of {prompt}", named) });
    openWindow(group.prompt, el("div", { class: "gdro-large" }, picture), () => this.element.focus());
  }

  #say() {
    const done = this.groups.filter((group) => this.#done(group)).length;
    this.progress.max = this.groups.length || 1;
    this.progress.value = done;
    const parts = [t("{done} of {total} groups rated", { done, total: this.groups.length })];
    if (this.groups.length) parts.push(t("group {number}", { number: this.group + 1 }));
    if (this.problem) parts.push(this.problem);
    this.status.textContent = parts.join(" · ");
  }

  #draw() {
    const group = this.groups[this.group];
    this.bar.hidden = this.hint.hidden = !group;
    this.#say();
    if (!group) return;
    this.prompt.textContent = this.prompt.title = group.prompt;
    const given = this.#of(group);
    this.cards.replaceChildren(
      ...this.#images(group).map((image, i) => this.#card(group, image, i, given[i])),
    );
    this.onResize();
  }

  #card(group, image, place, rating) {
    const name = t("Picture {number}", { number: place + 1 });
    const stars = [1, 2, 3, 4, 5].map((star) =>
      el("button", {
        type: "button", role: "radio", class: star <= (rating ?? 0) ? "gdro-lit" : "",
        "aria-checked": star === rating,
        "aria-label": t("{picture}: {star} of 5", { picture: name, star }),
        text: star <= (rating ?? 0) ? "★" : "☆",
        click: () => {
          this.picture = place;
          this.#rate(place, star === rating ? null : star);
        },
      }),
    );
    const score = image.value == null ? "" : ` · ${figure(image.value)}`;
    return el(
      "div",
      { class: `gdro-card${place === this.picture ? " gdro-now" : ""}` },
      el("img", {
        src: routes.imageUrl(this.place.run, group.group, image.image),
        draggable: "false",
        alt: rating
          ? t("{picture}, rated {rating}", { picture: name, rating })
          : t("{picture}, not rated", { picture: name }),
        click: () => this.#choose(place), dblclick: () => this.#large(),
      }),
      el("div", { class: "gdro-stars", role: "radiogroup", "aria-label": name }, ...stars),
      el("span", { class: "gdro-faint", text: `${image.image}${score}`, hidden: this.blind.checked }),
    );
  }
}
