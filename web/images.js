/** Images that several panels show: the preview of work in progress, and one image at full size. */

import { el, openWindow } from "./dom.js";
import { t } from "./i18n.js";

const JPEG = "data:image/jpeg;base64,";

/** The sheet of images that the server made last. */
export class Preview {
  constructor() {
    this.element = el("img", { class: "gdro-sheet", alt: t("Latest pictures"), hidden: true });
  }

  get hidden() {
    return this.element.hidden;
  }

  /** Show the image of a "preview" message. */
  show(message) {
    if (!message.picture?.startsWith(JPEG)) return;
    this.element.src = message.picture;
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}

/** A window with one image and its caption. */
export class ImageWindow {
  constructor(title, onClose) {
    this.image = el("img");
    this.caption = el("p");
    const content = el("div", { class: "gdro-large" }, this.image, this.caption);
    this.dialog = openWindow(title, content, onClose);
  }

  show(heading, url, caption) {
    this.dialog.querySelector("h2").textContent = heading;
    setSource(this.image, url);
    this.image.alt = this.caption.textContent = caption;
  }
}

/** Set the source of an image unless it has it already, which would load it again. */
export function setSource(image, url) {
  if (image.getAttribute("src") !== url) image.setAttribute("src", url);
}
