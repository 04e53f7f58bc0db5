/** The sidebar's list of runs: sorted and filtered, with what is running, and with several deleted at once. */

import { app } from "../../scripts/app.js";
import { button, el } from "./dom.js";
import { formatBytes, formatDate } from "./format.js";
import { t } from "./i18n.js";
import { keepKeys } from "./keys.js";
import * as routes from "./routes.js";
import { addLoRA, openRun, openWorkflow, rateRun, verifyRun } from "./run_actions.js";
import { toast } from "./toast.js";

/** The orders, each with its name and how it compares two runs. */
const orders = () => ({
  latest: [t("Newest first"), (a, b) => b.modified - a.modified],
  oldest: [t("Oldest first"), (a, b) => a.modified - b.modified],
  largest: [t("Largest first"), (a, b) => b.bytes - a.bytes],
  name: [t("By name"), (a, b) => a.name.localeCompare(b.name)],
});

export class RunsTab {
  constructor() {
    this.runs = [];
    this.working = []; // what nodes work on now
    this.chosen = new Set(); // names of the runs to delete
    this.status = el("p", { class: "gdro-status", role: "status" });
    this.search = el("input", {
      type: "search", placeholder: t("Filter"),
      "aria-label": t("Filter by name, model or reward"), input: () => this.#draw(),
    });
    this.order = el(
      "select",
      { "aria-label": t("Sort runs"), change: () => this.#draw() },
      ...Object.entries(orders()).map(([value, [text]]) => el("option", { value, text })),
    );
    this.deleteButton = button("", () => this.#delete([...this.chosen]), { hidden: true });
    this.list = el("ul", { class: "gdro-runs" });
    this.element = el(
      "div",
      { class: "gdro-tab" },
      el(
        "header",
        { class: "gdro-bar" },
        el("h2", { text: t("GDRO runs") }),
        button(t("Refresh"), () => this.load()),
      ),
      el("div", { class: "gdro-bar" }, this.search, this.order, this.deleteButton),
      this.status,
      this.list,
    );
    keepKeys(this.element);
  }

  show(container) {
    container.replaceChildren(this.element);
    this.load();
  }

  async load() {
    try {
      [this.runs, this.working] = await Promise.all([
        routes.listRuns(),
        routes.listWorking().catch(() => []),
      ]);
    } catch (error) {
      this.status.textContent = error.message;
      return;
    }
    const names = new Set(this.runs.map(({ run }) => run));
    for (const name of this.chosen) if (!names.has(name)) this.chosen.delete(name);
    this.#draw();
  }

  #draw() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (run) => [run.name, run.run, run.model, ...run.scores].join(" ").toLowerCase();
    const shown = this.runs.filter((run) => words.every((word) => text(run).includes(word)));
    shown.sort(orders()[this.order.value][1]);
    const size = formatBytes(shown.reduce((sum, run) => sum + run.bytes, 0));
    this.status.textContent = !this.runs.length
      ? t("No runs yet. GDRO Group Rollout creates one.")
      : shown.length < this.runs.length
        ? t("{count} of {total} runs, {size}", { count: shown.length, total: this.runs.length, size })
        : t("{count} runs, {size}", { count: shown.length, size });
    this.list.replaceChildren(...shown.map((run) => this.#row(run)));
    this.#drawDeleteButton();
  }

  #drawDeleteButton() {
    const chosen = this.runs.filter(({ run }) => this.chosen.has(run));
    this.deleteButton.hidden = !chosen.length;
    this.deleteButton.textContent = t("Delete {count} runs, {size}", {
      count: chosen.length, size: formatBytes(chosen.reduce((sum, run) => sum + run.bytes, 0)),
    });
  }

  #row(run) {
    const rewards = new Set(run.scores.map((name) => name.replace(/-[0-9a-f]+\.jsonl$/, "")));
    const facts = [
      t("{count} groups", { count: run.groups }), [...rewards].join(", "), formatBytes(run.bytes),
    ];
    const isRunning = this.working.some((location) => location.run === run.run);
    const choose = el("input", {
      type: "checkbox", checked: this.chosen.has(run.run),
      "aria-label": t("Choose {name}", { name: run.name }),
      change: () => {
        if (choose.checked) this.chosen.add(run.run);
        else this.chosen.delete(run.run);
        this.#drawDeleteButton();
      },
    });
    return el(
      "li",
      { class: "gdro-run" },
      run.picture
        ? el("img", { src: routes.thumbnailUrl(run.run, run.picture, 0), alt: "", loading: "lazy" })
        : el("span", { class: "gdro-nothing" }),
      el(
        "div",
        {},
        el("h3", {}, choose, ` ${run.name}`),
        isRunning ? el("p", { class: "gdro-running", text: t("running now") }) : null,
        el("p", { text: `${formatDate(run.modified)} · ${progressOf(run)}` }),
        el("p", { text: facts.filter(Boolean).join(" · ") }),
        el("p", { text: [run.run, run.model].filter(Boolean).join(" · ") }),
        this.#actions(run),
      ),
    );
  }

  #actions(run) {
    const loras = run.trainings.map((training) => training.lora).filter(Boolean);
    return el(
      "div",
      { class: "gdro-bar" },
      button(t("Open"), () => openRun(run)),
      run.workflow
        ? button(t("Continue"), () => openWorkflow(run), {
            title: t("Opens the workflow that made this run; Run continues where it stopped"),
          })
        : null,
      button(t("Rate"), () => rateRun(run)),
      ...loras.map((name) =>
        button(t("Use LoRA"), () => addLoRA(`gdro/${name}`), {
          title: t("Adds a node with {name} to the graph", { name }),
        }),
      ),
      button(t("Verify"), () => verifyRun(run), {
        title: t("Reads all files of this run and compares them with their checksums"),
      }),
      button(t("Delete"), () => this.#delete([run.run]), {
        "aria-label": t("Delete {name}", { name: run.name }),
      }),
    );
  }

  async #delete(names) {
    const runs = this.runs.filter(({ run }) => names.includes(run));
    if (!runs.length || !(await isConfirmed(runs))) return;
    for (const { run, name } of runs) {
      try {
        await routes.deleteRun(run);
      } catch (error) {
        toast("error", t("The run could not be deleted"), `${name}: ${error.message}`);
      }
    }
    await this.load();
  }
}

/** Ask whether these runs shall be deleted. */
function isConfirmed(runs) {
  const [run] = runs;
  const size = formatBytes(runs.reduce((sum, { bytes }) => sum + bytes, 0));
  const groups = runs.reduce((sum, one) => sum + one.groups, 0);
  return app.extensionManager.dialog.confirm({
    title:
      runs.length > 1
        ? t("Delete {count} runs?", { count: runs.length })
        : t("Delete {name}?", { name: run.name }),
    message: t(
      "This deletes {run}: {count} groups with their scores and trainings, {size}. Finished LoRA files are kept.",
      { run: runs.map((one) => one.run).join(", "), count: groups, size },
    ),
    type: "delete",
  });
}

/** Return how far a run has come, in words. */
function progressOf({ groups, scores, trainings }) {
  if (!groups) return t("no pictures yet");
  if (!scores.length) return t("no scores yet");
  if (!trainings.length) return t("scored, not trained");
  const finished = trainings.filter((training) => training.state === "finished").length;
  return t("{finished} of {total} trainings finished", { finished, total: trainings.length });
}
