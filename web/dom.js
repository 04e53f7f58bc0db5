/** Making elements. Data gets in as text and attributes only, never as markup. */

import { t } from "./words.js";
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "rect", "g", "title"]);

/**
 * An element.
 * @param {string} tag
 * @param {object} given attributes; functions become listeners ("click"), "text" the text content
 * @param {...(Node|string|null)} children
 */
export function el(tag, given = {}, ...children) {
  const made = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (name === "text") made.textContent = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** A number as people read it: three digits that say something. */
export function figure(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1 ? 4 : 3)));
}

/** A difference with its sign, as the report writes it. */
export function difference(value) {
  return (value > 0 ? "+" : "") + value.toFixed(3);
}

/** Seconds as "3 min 20 s". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Bytes as "12 MB". */
export function fileSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place++) bytes /= 1000;
  return `${bytes < 10 && place ? bytes.toFixed(1) : Math.round(bytes)} ${units[place]}`;
}

/** Calls `work` at most once in `wait` milliseconds, the last time after the last call. */
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

/** A window over the page with `content`; Escape and the button close it. */
export function openWindow(title, content, onClose = () => {}) {
  const dialog = el(
    "dialog",
    { class: "gdro-window", "aria-label": title },
    el(
      "header",
      {},
      el("h2", { text: title }),
      el("button", { type: "button", "aria-label": t("Close"), text: "✕", click: () => dialog.close() }),
    ),
    content,
  );
  // ComfyUI listens for keys on the page: what is typed here is not meant for the graph.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
