/** The controls below an image that is rated: stars, best and worst, or its rank. */

import { button, el } from "./dom.js";
import { t } from "./i18n.js";

const STARS = [1, 2, 3, 4, 5];
const DRAG_TYPE = "application/x-gdro-image";

// Sizes in pixels, as in gdro.css.
const GAP = 8;
const CONTROLS = 40; // what a card has beside its image
const [FEWEST, MOST] = [2, 6];

/**
 * Return how many cards stand in a row: the fewest with which all of them fit into the space.
 * @param {number} count of cards
 * @param {number} width of the space @param {number} height of the space
 * @param {number} aspect width of an image divided by its height
 */
export function cardColumns(count, width, height, aspect) {
  for (let columns = FEWEST; columns < MOST; columns++) {
    const card = (width - (columns - 1) * GAP) / columns;
    const rows = Math.ceil(count / columns);
    if (rows * (card / aspect + CONTROLS) + (rows - 1) * GAP <= height) return columns;
  }
  // They are scrolled: then not so small that nothing can be seen.
  return Math.max(FEWEST, Math.min(MOST, Math.floor((width + GAP) / (124 + GAP))));
}

/** Five stars; `rate` is called with 1 to 5, or with null to take the rating back. */
export function starControls(name, rating, rate) {
  const stars = STARS.map((star) => {
    const isLit = star <= (rating ?? 0);
    return button(isLit ? "★" : "☆", () => rate(star === rating ? null : star), {
      role: "radio", class: isLit ? "gdro-lit" : "", "aria-checked": star === rating ? "true" : "false",
      "aria-label": t("{picture}: {star} of 5", { picture: name, star }),
    });
  });
  return el("div", { class: "gdro-stars", role: "radiogroup", "aria-label": name }, ...stars);
}

/**
 * Two buttons that pick an image as the best or the worst of its group.
 * @param {number} index of the image
 * @param {{best: number|null, worst: number|null}} picked indices of the picked images
 * @param {(extreme: "best"|"worst") => void} pick
 */
export function extremeControls(name, index, picked, pick) {
  const values = { picture: name };
  const choice = (extreme, text, label) =>
    button(text, () => pick(extreme), {
      class: picked[extreme] === index ? "gdro-lit" : "", "aria-label": label,
      "aria-pressed": picked[extreme] === index ? "true" : "false",
    });
  return el(
    "div",
    { class: "gdro-controls" },
    choice("best", t("Best"), t("{picture} is the best", values)),
    choice("worst", t("Worst"), t("{picture} is the worst", values)),
  );
}

/**
 * The rank of an image, and buttons that change it.
 * @param {boolean} isRanked false while the order is only proposed
 * @param {(distance: -1|1) => void} move called with -1 for a better rank, 1 for a worse one
 */
export function rankControls(name, rank, isRanked, move) {
  const values = { picture: name };
  return el(
    "div",
    { class: "gdro-controls" },
    button("‹", () => move(-1), { "aria-label": t("{picture}: move up", values) }),
    el("span", { class: isRanked ? "gdro-lit" : "gdro-faint", text: String(rank) }),
    button("›", () => move(1), { "aria-label": t("{picture}: move down", values) }),
  );
}

/** Let a card be dragged onto other cards; `onDrop` is called with the index of the one dropped here. */
export function makeDraggable(card, index, onDrop) {
  card.draggable = true;
  // The canvas would move the node.
  card.addEventListener("pointerdown", (event) => event.stopPropagation());
  card.addEventListener("dragstart", (event) => {
    event.stopPropagation();
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData(DRAG_TYPE, String(index));
  });
  const accept = (event) => {
    if (!event.dataTransfer.types.includes(DRAG_TYPE)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  card.addEventListener("dragover", accept);
  card.addEventListener("drop", (event) => {
    accept(event);
    const dragged = Number(event.dataTransfer.getData(DRAG_TYPE));
    if (dragged !== index) onDrop(dragged);
  });
}
