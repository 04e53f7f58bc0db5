/** Images sampled during a training, with a slider over its steps; beside validations, the base's. */

import { el } from "./dom.js";
import { t } from "./i18n.js";
import { ImageWindow, scaled, setSource } from "./images.js";
import * as routes from "./routes.js";

export class TrainingImages {
  constructor() {
    this.kind = el(
      "select",
      { "aria-label": t("Pictures to show"), change: () => this.#draw() },
      el("option", { value: "validation", text: t("Validation") }),
      el("option", { value: "samples", text: t("Training prompts") }),
    );
    this.slider = el("input", {
      type: "range", min: 0, step: 1, "aria-label": t("Training step"), input: () => this.#show(),
    });
    this.label = el("output", {});
    this.base = this.#sheet(t("Base model"));
    this.current = this.#sheet("");
    this.element = el(
      "div",
      { class: "gdro-training-images", hidden: true },
      el("div", { class: "gdro-bar" }, this.kind, this.slider, this.label),
      el("div", { class: "gdro-sheets" }, this.base, this.current),
    );
    this.clear();
  }

  /** Create a sheet of images, which a click shows alone. */
  #sheet(alt) {
    const open = () => new ImageWindow(sheet.alt).show(sheet.alt, sheet.src, this.label.textContent);
    const sheet = scaled(el("img", { alt, class: "gdro-sheet", click: open }));
    return sheet;
  }

  get hidden() {
    return this.element.hidden;
  }

  clear() {
    this.location = null;
    this.steps = { samples: [], validation: [] };
    this.hasBase = false;
    this.wasShown = false;
    this.element.hidden = true;
  }

  /** Take over what the server has of a training: steps with images, and whether the base has some. */
  set(location, { samples, validations, base }) {
    const isFirstValidation = base && !this.hasBase;
    this.location = location;
    this.steps = { samples, validation: validations };
    this.hasBase = base;
    if (isFirstValidation) this.kind.value = "validation";
    if (!this.steps[this.kind.value].length) this.kind.value = this.#otherKind;
    this.#draw();
  }

  get #otherKind() {
    return this.kind.value === "samples" ? "validation" : "samples";
  }

  #draw() {
    const steps = this.steps[this.kind.value];
    this.element.hidden = !steps.length;
    this.kind.hidden = !this.steps[this.#otherKind].length;
    if (!steps.length) return;
    // The slider stays at the end, unless it was moved away from there.
    const atEnd = !this.wasShown || this.slider.value === this.slider.max;
    this.slider.max = steps.length - 1;
    if (atEnd) this.slider.value = steps.length - 1;
    this.#show();
  }

  #show() {
    const kind = this.kind.value;
    const step = this.steps[kind][Number(this.slider.value)];
    if (step == null) return;
    this.wasShown = true;
    this.label.textContent = t("step {step}", { step });
    this.slider.setAttribute("aria-valuetext", t("step {step}", { step }));
    this.base.hidden = kind === "samples" || !this.hasBase;
    if (!this.base.hidden) setSource(this.base, routes.trainingImageUrl(this.location, kind, "base"));
    this.current.alt = t("Pictures of step {step}", { step });
    setSource(this.current, routes.trainingImageUrl(this.location, kind, step));
  }
}
