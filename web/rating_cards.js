/** What stands below a picture that is rated: stars, best and worst, or its place in the order. */

import { el } from "./dom.js";
import { t } from "./words.js";

/** Five stars; `rate(star)` is called with 1 to 5, or null to take the rating back. */
export function stars(name, rating, rate) {
  const buttons = [1, 2, 3, 4, 5].map((star) =>
    el("button", {
      type: "button", role: "radio", class: star <= (rating ?? 0) ? "gdro-lit" : "",
      "aria-checked": String(star === rating), "aria-label": t("{picture}: {star} of 5", { picture: name, star }),
      text: star <= (rating ?? 0) ? "★" : "☆",
      click: () => rate(star === rating ? null : star),
    }),
  );
  return el("div", { class: "gdro-stars", role: "radiogroup", "aria-label": name }, ...buttons);
}

/** Two buttons; `picked` has the places {best, worst}, `pick` is called with one of these words. */
export function ends(name, place, picked, pick) {
  const values = { picture: name };
  const button = (end, text, words) =>
    el("button", {
      type: "button", class: picked[end] === place ? "gdro-lit" : "", text,
      "aria-pressed": String(picked[end] === place), "aria-label": words,
      click: () => pick(end),
    });
  return el(
    "div",
    { class: "gdro-ends" },
    button("best", t("Best"), t("{picture} is the best", values)),
    button("worst", t("Worst"), t("{picture} is the worst", values)),
  );
}

/** The place in the order, from 0; `move` is called with -1 (better) or 1 (worse). */
export function position(name, at, kept, move) {
  const button = (by, text, words) =>
    el("button", { type: "button", text, "aria-label": words, click: () => move(by) });
  return el(
    "div",
    { class: "gdro-ends" },
    button(-1, "‹", t("{picture}: better", { picture: name })),
    el("span", { class: kept ? "gdro-lit" : "gdro-faint", text: String(at + 1) }),
    button(1, "›", t("{picture}: worse", { picture: name })),
  );
}

const KIND = "application/x-gdro-picture";

/** Let a card be dragged onto another one; `drop(place)` is called on the one below. */
export function makeDraggable(card, place, drop) {
  card.draggable = true;
  // The canvas would move the node.
  card.addEventListener("pointerdown", (event) => event.stopPropagation());
  card.addEventListener("dragstart", (event) => {
    event.stopPropagation();
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData(KIND, String(place));
  });
  const over = (event) => {
    if (!event.dataTransfer.types.includes(KIND)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  card.addEventListener("dragover", over);
  card.addEventListener("drop", (event) => {
    over(event);
    const dragged = Number(event.dataTransfer.getData(KIND));
    if (dragged !== place) drop(dragged);
  });
}
