/** A training: curves, step, speed, time left, pictures on the way, and wishes while it runs. */

import { Chart } from "./charts.js";
import { duration, el, fileSize, throttled } from "./dom.js";
import * as routes from "./routes.js";
import { t } from "./words.js";

const validation = (name) => (row) => row.validation?.[name];
const base = (name) => (row) => row.validation?.base?.[name];

/** Charts, each with its curves: name, value of a row, and whether it is a reference. */
const charts = () => [
  [t("Validation reward"), [t("aligned"), validation("reward")], [t("base"), base("reward"), true]],
  [t("Corrected score"), [t("aligned"), validation("corrected")], [t("base"), base("corrected"), true]],
  [t("Guard (1 to 5)"), [t("aligned"), validation("guard")], [t("base"), base("guard"), true]],
  [t("Loss"), [t("loss"), (row) => row.loss]],
  [t("Ranking accuracy"), [t("accuracy"), (row) => row.accuracy]],
  [t("Margin"), [t("margin"), (row) => row.margin]],
  [
    t("Error of the best image"),
    ["LoRA", (row) => row.top_error],
    [t("base"), (row) => row.top_reference_error, true],
  ],
];

export class TrainingView {
  /** The end of its work is worth a message. */
  announces = true;

  /** @param {() => void} onResize told when the view needs more or less room */
  constructor(onResize = () => {}) {
    this.onResize = onResize;
    this.status = el("p", { class: "gdro-status", text: t("The curves appear here once it trains.") });
    this.curves = charts();
    this.charts = this.curves.map(([title]) => new Chart(title, (step) => this.#point(step)));
    this.smoothing = el("input", {
      type: "range", min: 0, max: 0.98, step: 0.02, value: 0.8, input: () => this.#draw(),
    });
    this.log = el("input", { type: "checkbox", change: () => this.#draw() });
    this.stop = this.#wishButton("stop", t("Stop and keep best"), t("it ends after this step"));
    this.save = this.#wishButton("save", t("Save now"), t("a LoRA of this step is written"));
    this.controls = el(
      "div",
      { class: "gdro-bar", hidden: true },
      el("label", {}, `${t("Smoothing")} `, this.smoothing),
      el("label", {}, this.log, ` ${t("Log scale")}`),
      this.stop,
      this.save,
    );
    this.grid = el("div", { class: "gdro-charts" }, ...this.charts.map((chart) => chart.element));
    for (const chart of this.charts) chart.element.hidden = true;
    this.pictures = new Pictures();
    this.element = el(
      "section",
      { class: "gdro-training", "aria-label": t("Training") },
      this.status,
      this.controls,
      this.grid,
      this.pictures.element,
    );
    this.redraw = throttled(() => this.#draw(), 250);
    this.#forget();
  }

  get height() {
    return this.rows.length ? (this.pictures.element.hidden ? 400 : 560) : 60;
  }

  #forget() {
    this.place = {};
    this.rows = [];
    this.total = null;
    this.live = false;
    this.state = null;
    this.pictures.clear();
  }

  #wishButton(what, label, promise) {
    const button = el("button", {
      type: "button",
      text: label,
      hidden: true,
      click: async () => {
        try {
          await routes.wish(this.place, what);
          this.note = promise;
        } catch (error) {
          this.note = error.message;
        }
        this.#say();
      },
    });
    return button;
  }

  /** Show the training of a place {run, training}. */
  async show(place) {
    if (!place.training) return;
    if (place.run !== this.place.run || place.training !== this.place.training) {
      this.#forget();
      this.place = { run: place.run, training: place.training };
      this.#draw();
    }
    await this.load();
  }

  /** Read the history again; steps that came meanwhile stay. */
  async load() {
    const { place } = this;
    let found;
    try {
      found = await routes.readTraining(place);
    } catch (error) {
      // Its folder is made a moment after it was announced.
      if (place === this.place && !this.rows.length) {
        this.status.textContent =
          error.status === 404 ? t("This training is not on disk (any more).") : error.message;
      }
      return;
    }
    if (place !== this.place) return;
    const last = found.rows.at(-1)?.step ?? 0;
    this.rows = [...found.rows, ...this.rows.filter((row) => row.step > last)];
    this.total = found.asked ?? this.total;
    this.state = found.state;
    this.lora = found.lora;
    this.pictures.set(place, found);
    this.#draw();
  }

  /** A message of the run: "training", "train_step", "preview", "end". */
  receive(event, detail) {
    if (event === "training") {
      this.note = null;
      return;
    }
    if (event === "end") {
      this.live = false;
      this.note = null;
      return this.place.training ? this.load() : null;
    }
    if (event === "preview") {
      this.sampled = true;
      return;
    }
    if (event !== "train_step" || detail.training !== this.place.training) return;
    this.live = true;
    this.state = "unfinished";
    this.total = detail.steps ?? this.total;
    while (this.rows.length && this.rows.at(-1).step >= detail.step) this.rows.pop();
    this.rows.push(detail);
    if (this.sampled || detail.validation) {
      this.pictures.add(detail.validation ? "validation" : "samples", detail.step);
      this.sampled = false;
    }
    this.redraw();
  }

  #point(step) {
    for (const chart of this.charts) chart.setCursor(step);
  }

  #best() {
    let best = null;
    for (const row of this.rows) {
      const score = row.validation?.corrected ?? row.validation?.reward;
      if (score != null && (best == null || score > best.score)) best = { score, step: row.step };
    }
    return best?.step ?? null;
  }

  #draw() {
    const { rows } = this;
    const how = {
      from: rows[0]?.step ?? 0,
      to: Math.max(rows.at(-1)?.step ?? 1, 2),
      smoothing: Number(this.smoothing.value),
      log: this.log.checked,
      mark: this.#best(),
      checkpoints: rows.filter((row) => row.checkpoint || row.saved).map((row) => row.step),
    };
    for (const [place, [, ...curves]] of this.curves.entries()) {
      const series = curves.map(([name, value, dashed]) => ({
        name,
        dashed: !!dashed,
        points: rows.flatMap((row) => {
          const y = value(row);
          return typeof y === "number" && Number.isFinite(y) ? [[row.step, y]] : [];
        }),
      }));
      this.charts[place].draw(series[0].points.length ? series : [], how);
    }
    this.controls.hidden = !rows.length;
    this.stop.hidden = this.save.hidden = !this.live;
    this.#say();
    this.onResize();
  }

  #say() {
    const last = this.rows.at(-1);
    if (!last) {
      this.status.textContent = this.place.training
        ? t("Waiting for the first step.")
        : t("The curves appear here once it trains.");
      return;
    }
    const parts = [
      this.total
        ? t("Step {step} of {total}", { step: last.step, total: this.total })
        : t("Step {step}", { step: last.step }),
    ];
    if (last.groups) parts.push(t("on {count} groups", { count: last.groups }));
    const recent = this.rows.slice(-20).filter((row) => row.seconds > 0);
    const speed = recent.reduce((sum, row) => sum + row.seconds, 0) / (recent.length || 1);
    if (recent.length) parts.push(t("{seconds} s a step", { seconds: speed.toPrecision(2) }));
    if (this.live && this.total) {
      parts.push(t("{time} left", { time: duration((this.total - last.step) * speed) }));
    }
    if (last.memory) parts.push(t("{size} of memory", { size: fileSize(last.memory) }));
    const best = this.#best();
    if (best != null) parts.push(t("best at step {step}", { step: best }));
    if (!this.live && this.state) {
      parts.push(this.state === "finished" ? t("finished") : t("unfinished"));
    }
    if (!this.live && this.lora) parts.push(this.lora);
    if (this.note) parts.push(this.note);
    this.status.textContent = parts.join(" · ");
  }
}

/** Pictures on the way, with a slider over the steps; those of validations with the base beside. */
class Pictures {
  constructor() {
    this.kind = el(
      "select",
      { "aria-label": t("Which pictures"), change: () => this.#draw() },
      el("option", { value: "validation", text: t("Validation") }),
      el("option", { value: "samples", text: t("Training prompts") }),
    );
    this.slider = el("input", {
      type: "range", min: 0, step: 1, "aria-label": t("Step of the picture"), input: () => this.#show(),
    });
    this.label = el("output", {});
    this.base = el("img", { alt: t("Base model"), class: "gdro-sheet" });
    this.now = el("img", { alt: "", class: "gdro-sheet" });
    this.element = el(
      "div",
      { class: "gdro-pictures", hidden: true },
      el("div", { class: "gdro-bar" }, this.kind, this.slider, this.label),
      el("div", { class: "gdro-sheets" }, this.base, this.now),
    );
    this.clear();
  }

  clear() {
    this.steps = { samples: [], validation: [] };
    this.hasBase = false;
    this.element.hidden = true;
  }

  set(place, found) {
    this.place = place;
    this.steps = { samples: found.samples, validation: found.validations };
    this.hasBase = found.base;
    if (!found.validations.length && found.samples.length) this.kind.value = "samples";
    this.#draw();
  }

  add(kind, step) {
    if (!this.place) return;
    if (!this.steps[kind].includes(step)) this.steps[kind].push(step);
    if (kind === "validation" && !this.hasBase) {
      this.hasBase = true;
      this.kind.value = kind;
    }
    if (!this.steps[this.kind.value].length) this.kind.value = kind;
    this.#draw();
  }

  #draw() {
    const steps = this.steps[this.kind.value];
    const other = this.steps[this.kind.value === "samples" ? "validation" : "samples"];
    this.element.hidden = !steps.length;
    this.kind.hidden = !other.length;
    if (!steps.length) return;
    const atEnd = this.slider.value === this.slider.max || !this.shown;
    this.slider.max = steps.length - 1;
    if (atEnd) this.slider.value = steps.length - 1;
    this.#show();
  }

  #show() {
    const kind = this.kind.value;
    const step = this.steps[kind][Number(this.slider.value)];
    if (step == null) return;
    this.shown = true;
    this.label.textContent = t("step {step}", { step });
    this.slider.setAttribute("aria-valuetext", t("step {step}", { step }));
    this.base.hidden = kind === "samples" || !this.hasBase;
    if (!this.base.hidden) setSource(this.base, routes.sampleUrl(this.place, kind, "base"));
    this.now.alt = t("Pictures of step {step}", { step });
    setSource(this.now, routes.sampleUrl(this.place, kind, step));
  }
}

function setSource(image, url) {
  if (image.getAttribute("src") !== url) image.setAttribute("src", url);
}
