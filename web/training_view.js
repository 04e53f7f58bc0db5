/** A training: curves, step, speed and images, and commands while it runs. */

import { Chart } from "./charts.js";
import { button, el, throttled } from "./dom.js";
import { formatBytes } from "./format.js";
import { t } from "./i18n.js";
import * as routes from "./routes.js";
import { TrainingImages } from "./training_images.js";

const SPEED_STEPS = 20; // the latest steps, which the speed is the mean of

const PURPOSE_HEIGHT = 52; // pixels

const validation = (name) => (row) => row.validation?.[name];
const base = (name) => (row) => row.validation?.base?.[name];

/** The charts: a title, and curves of a name, a function of a row, and whether it is a reference. */
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
  /**
   * @param {object} callbacks
   * @param {() => void} callbacks.onResize called when the view needs another height
   * @param {() => void} callbacks.queue queues the graph, on whose node the view is
   */
  constructor({ onResize = () => {}, queue = null } = {}) {
    Object.assign(this, { onResize, queue });
    this.status = el("p", {
      class: "gdro-status", text: t("The curves appear here once training starts."),
    });
    this.curves = charts();
    this.charts = this.curves.map(([title]) => new Chart(title, (step) => this.#setCursor(step)));
    this.smoothing = el("input", {
      type: "range", min: 0, max: 0.98, step: 0.02, value: 0.8, input: () => this.#draw(),
    });
    this.log = el("input", { type: "checkbox", change: () => this.#draw() });
    this.stopButton = button(t("Stop and keep best"), () =>
      this.#send("stop", t("stopping after this step")),
    );
    this.saveButton = button(t("Save now"), () =>
      this.#send("save", t("saving a LoRA of this step")),
    );
    this.goOnButton = button(t("Go on"), () => this.#goOn(), {
      title: t("Takes the steps that are left, from where the training was stopped"),
    });
    this.controls = el(
      "div",
      { class: "gdro-bar", hidden: true },
      el("label", {}, `${t("Smoothing")} `, this.smoothing),
      el("label", {}, this.log, ` ${t("Log scale")}`),
      this.stopButton,
      this.saveButton,
      this.goOnButton,
    );
    this.images = new TrainingImages();
    this.purpose = el("p", { class: "gdro-faint gdro-purpose", hidden: true });
    this.element = el(
      "section",
      { class: "gdro-training", "aria-label": t("Training") },
      this.purpose,
      this.status,
      this.controls,
      el("div", { class: "gdro-charts" }, ...this.charts.map((chart) => chart.element)),
      this.images.element,
    );
    this.redraw = throttled(() => this.#draw(), 250);
    this.reload = throttled(() => this.load(), 1000);
    this.#clear();
  }

  get height() {
    const words = this.purpose.hidden ? 0 : PURPOSE_HEIGHT;
    if (!this.rows.length) return 60 + words;
    return (this.images.hidden ? 400 : 560) + words;
  }

  /** Say in words what the training is set to. */
  showPurpose(words) {
    this.purpose.textContent = this.purpose.title = words;
    this.purpose.hidden = false;
    this.onResize();
  }

  /** How the training ended, for a message in the corner of the page. */
  get outcome() {
    if (!this.rows.length) return null;
    const severity = this.state === "finished" && !this.isStopped ? "success" : "info";
    return { severity, text: this.status.textContent };
  }

  #clear() {
    this.location = {};
    this.rows = []; // of the history, one a step
    this.total = null; // steps
    this.isRunning = false;
    this.state = null; // "finished" or "unfinished", as the server calls it
    this.lora = null; // file name
    this.isStopped = false; // before its last step, by its button
    this.note = null; // on the last command
    this.hasNewImages = false;
    this.images.clear();
  }

  async #send(command, note) {
    try {
      await routes.sendCommand(this.location, command);
      this.note = note;
    } catch (error) {
      this.note = error.message;
    }
    this.#showStatus();
  }

  async #goOn() {
    await this.#send("continue", t("queued: it goes on from here"));
    await this.load();
    if (!this.isStopped) this.queue();
  }

  async show({ run, training }) {
    if (!training) return;
    if (run !== this.location.run || training !== this.location.training) {
      this.#clear();
      this.location = { run, training };
      this.#draw();
    }
    await this.load();
  }

  /** Read the history again; steps taken meanwhile are kept. */
  async load() {
    const { location } = this;
    let history;
    try {
      history = await routes.readTraining(location);
    } catch (error) {
      // The folder of a training is created a moment after the training was announced.
      if (location === this.location && !this.rows.length) {
        this.status.textContent =
          error.status === 404 ? t("This training is not on disk.") : error.message;
      }
      return;
    }
    if (location !== this.location) return;
    const last = history.rows.at(-1)?.step ?? 0;
    this.rows = [...history.rows, ...this.rows.filter((row) => row.step > last)];
    this.total = history.asked ?? this.total;
    this.state = history.state;
    this.isRunning = history.running;
    this.lora = history.lora;
    this.isStopped = history.state === "finished" && history.stopped;
    this.images.set(location, history);
    this.#draw();
  }

  /** Take a message of the server: "training", "train_step", "preview" or "end". */
  receive(event, message) {
    if (event === "training") {
      this.note = null;
    } else if (event === "preview") {
      this.hasNewImages = true; // of the step whose message comes next, or of a round
    } else if (event === "train_step" && message.training === this.location.training) {
      this.#addStep(message);
    } else if (event === "end") {
      this.note = null;
      return this.#end();
    }
  }

  /** Show how the training ended; until that is known, it is shown as it ran. */
  async #end() {
    if (this.location.training) await this.load();
    this.isRunning = false;
    this.#draw();
  }

  #addStep(row) {
    this.isRunning = true;
    this.state = "unfinished";
    this.total = row.steps ?? this.total;
    // A training that resumes from its checkpoint takes some steps again.
    while (this.rows.length && this.rows.at(-1).step >= row.step) this.rows.pop();
    this.rows.push(row);
    if (this.hasNewImages || row.validation) this.reload();
    this.hasNewImages = false;
    this.redraw();
  }

  #setCursor(step) {
    for (const chart of this.charts) chart.setCursor(step);
  }

  /** Return the step with the highest validated score, or null. */
  #bestStep() {
    let best = null;
    for (const { step, validation } of this.rows) {
      const score = validation?.corrected ?? validation?.reward;
      if (score != null && (best == null || score > best.score)) best = { score, step };
    }
    return best?.step ?? null;
  }

  #draw() {
    const { rows } = this;
    const options = {
      from: rows[0]?.step ?? 0,
      to: Math.max(rows.at(-1)?.step ?? 1, 2),
      smoothing: Number(this.smoothing.value),
      log: this.log.checked,
      best: this.#bestStep(),
      checkpoints: rows.filter((row) => row.checkpoint || row.saved).map((row) => row.step),
    };
    for (const [index, [, ...curves]] of this.curves.entries()) {
      const series = curves.map(([name, value, dashed = false]) => ({
        name,
        dashed,
        points: rows.map((row) => [row.step, value(row)]).filter(([, y]) => Number.isFinite(y)),
      }));
      this.charts[index].draw(series[0].points.length ? series : [], options);
    }
    this.controls.hidden = !rows.length;
    this.stopButton.hidden = this.saveButton.hidden = !this.isRunning;
    this.goOnButton.hidden = this.isRunning || !this.isStopped || !this.queue;
    this.#showStatus();
    this.onResize();
  }

  #showStatus() {
    const last = this.rows.at(-1);
    if (!last) {
      this.status.textContent = this.location.training
        ? t("Waiting for the first step.")
        : t("The curves appear here once training starts.");
      return;
    }
    const { total } = this;
    const recent = this.rows.slice(-SPEED_STEPS).filter((row) => row.seconds > 0);
    const seconds = recent.reduce((sum, row) => sum + row.seconds, 0) / (recent.length || 1);
    const best = this.#bestStep();
    const seen = this.rows.findLast((row) => row.validation)?.validation.trained_on;
    const isFinished = this.state === "finished";
    const parts = [
      total ? t("Step {step} of {total}", { step: last.step, total }) : t("Step {step}", last),
      last.groups && t("on {count} groups", { count: last.groups }),
      recent.length && t("{seconds} s/step", { seconds: seconds.toPrecision(2) }),
      last.memory && t("{size} of memory", { size: formatBytes(last.memory) }),
      best != null && t("best at step {step}", { step: best }),
      seen && t("{count} validation prompts are also trained on", { count: seen }),
      !this.isRunning && this.state && 
        (this.isStopped ? t("stopped") : isFinished ? t("finished") : t("unfinished")),
      !this.isRunning && this.lora,
      this.note,
    ];
    this.status.textContent = parts.filter(Boolean).join(" · ");
  }
}
