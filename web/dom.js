/** Elements, and a window over the page. Data enters as text and attributes only, never as markup. */

import { t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "rect", "g", "title"]);

/**
 * Create an element.
 * @param {string} tag
 * @param {object} attributes functions become listeners ("click"), "text" becomes the text content
 * @param {...(Node|string|null)} children null is left out
 */
export function el(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "text") element.textContent = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Create a button; `attributes` are those of `el`. */
export function button(text, onClick, attributes = {}) {
  return el("button", { type: "button", text, click: onClick, ...attributes });
}

/** Return a function that calls `work` at most once per `wait` milliseconds, and after the last call. */
export function throttled(work, wait) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(
      () => {
        timer = null;
        last = Date.now();
        work();
      },
      Math.max(0, last + wait - Date.now()),
    );
  };
}

/** Show `content` in a window over the page, which Escape and its button close. */
export function openWindow(title, content, onClose = () => {}) {
  const dialog = el(
    "dialog",
    { class: "gdro-window", "aria-label": title },
    el(
      "header",
      {},
      el("h2", { text: title }),
      button("✕", () => dialog.close(), { "aria-label": t("Close") }),
    ),
    content,
  );
  // ComfyUI listens for keys on the page; those pressed in the window are not meant for the graph.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
