/** Images that several panels show: how they are scaled, the preview of work in progress, and one image alone. */

import { button, el, openWindow } from "./dom.js";
import { t } from "./i18n.js";

const JPEG = "data:image/jpeg;base64,";
const SMALL = 256; // longest side in pixels of an image whose pixels may be seen when it is enlarged
const PREVIEW_KEY = "gdro.preview."; // of the session's storage, followed by what is previewed

/**
 * Scale an image smoothly, except where a small one is enlarged: then its pixels are kept sharp.
 * @param {HTMLImageElement} image
 */
export function scaled(image) {
  image.addEventListener("load", () => choosePixels(image));
  sizes.observe(image);
  return image;
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) choosePixels(target);
});

function choosePixels(image) {
  const { naturalWidth: width, naturalHeight: height, clientWidth, clientHeight } = image;
  const isEnlarged = width && Math.min(clientWidth / width, clientHeight / height) > 1;
  image.classList.toggle("gdro-pixels", Boolean(isEnlarged) && Math.max(width, height) <= SMALL);
}

/** The sheet of images that the server made last; it is kept for a reload of the page. */
export class Preview {
  constructor() {
    this.element = scaled(
      el("img", { class: "gdro-sheet", alt: t("Latest pictures"), hidden: true }),
    );
  }

  get hidden() {
    return this.element.hidden;
  }

  /** Show the image of a "preview" message, and keep it under a name. */
  show({ picture }, name = "") {
    if (!picture?.startsWith(JPEG)) return;
    this.#draw(picture);
    if (!name) return;
    try {
      sessionStorage.setItem(PREVIEW_KEY + name, picture);
    } catch {
      // The storage is full or forbidden: the preview comes with the next message.
    }
  }

  /** Show what was kept under a name, if there is anything. */
  recall(name) {
    const picture = sessionStorage.getItem(PREVIEW_KEY + name);
    if (picture?.startsWith(JPEG)) this.#draw(picture);
  }

  /** Hide the preview for good. */
  hide(name = "") {
    this.element.hidden = true;
    if (name) sessionStorage.removeItem(PREVIEW_KEY + name);
  }

  #draw(picture) {
    this.element.src = picture;
    this.element.hidden = false;
  }
}

/** A window with one image and its caption; a click on the image, or F, shows it at its full size. */
export class ImageWindow {
  constructor(title, onClose) {
    this.image = scaled(el("img", { click: () => this.#toggle() }));
    this.caption = el("p");
    this.sizeButton = button("", () => this.#toggle());
    const content = el(
      "div",
      {
        class: "gdro-large",
        keydown: (event) => event.key.toLowerCase() === "f" && this.#toggle(),
      },
      el("div", { class: "gdro-large-frame", tabindex: 0 }, this.image),
      this.caption,
      this.sizeButton,
    );
    this.content = content;
    this.dialog = openWindow(title, content, onClose);
    this.#label();
  }

  show(heading, url, caption) {
    this.dialog.querySelector("h2").textContent = heading;
    setSource(this.image, url);
    this.image.alt = this.caption.textContent = caption;
  }

  #toggle() {
    this.content.classList.toggle("gdro-full-size");
    this.#label();
  }

  #label() {
    const isFull = this.content.classList.contains("gdro-full-size");
    this.sizeButton.textContent = isFull ? t("Fit (F)") : t("Full size (F)");
  }
}

/** Set the source of an image unless it has it already, which would load it again. */
export function setSource(image, url) {
  if (image.getAttribute("src") !== url) image.setAttribute("src", url);
}
