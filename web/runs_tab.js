/** The sidebar's list of runs. */

import { app } from "../../scripts/app.js";
import { button, el, openWindow } from "./dom.js";
import { formatBytes } from "./format.js";
import { GroupsView } from "./groups_view.js";
import { t } from "./i18n.js";
import { keepKeys } from "./keys.js";
import { RatingView } from "./rating_view.js";
import * as routes from "./routes.js";
import { toast } from "./toast.js";
import { TrainingView } from "./training_view.js";

export class RunsTab {
  constructor() {
    this.status = el("p", { class: "gdro-status", role: "status" });
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
      this.status,
      this.list,
    );
  }

  show(container) {
    keepKeys(this.element);
    container.replaceChildren(this.element);
    this.load();
  }

  async load() {
    try {
      const runs = await routes.listRuns();
      const size = runs.reduce((sum, run) => sum + run.bytes, 0);
      this.status.textContent = runs.length
        ? t("{count} runs, {size}", { count: runs.length, size: formatBytes(size) })
        : t("No runs yet. GDRO Group Rollout creates one.");
      this.list.replaceChildren(...runs.map((run) => this.#row(run)));
    } catch (error) {
      this.status.textContent = error.message;
    }
  }

  #row(run) {
    const rewards = new Set(run.scores.map((name) => name.replace(/-[0-9a-f]+\.jsonl$/, "")));
    const facts = [
      t("{count} groups", { count: run.groups }), [...rewards].join(", "), formatBytes(run.bytes),
    ];
    return el(
      "li",
      { class: "gdro-run" },
      run.picture
        ? el("img", { src: routes.thumbnailUrl(run.run, run.picture, 0), alt: "", loading: "lazy" })
        : el("span", { class: "gdro-nothing" }),
      el(
        "div",
        {},
        el("h3", { text: run.name }),
        el("p", { text: `${run.run} · ${run.model}` }),
        el("p", { text: facts.filter(Boolean).join(" · ") }),
        el("p", { text: progressOf(run) }),
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
        button(t("Copy LoRA name"), () => copyName(`gdro/${name}`), { title: name }),
      ),
      button(t("Delete"), () => this.#delete(run), {
        "aria-label": t("Delete {name}", { name: run.name }),
      }),
    );
  }

  async #delete(run) {
    const isConfirmed = await app.extensionManager.dialog.confirm({
      title: t("Delete {name}?", { name: run.name }),
      message: t(
        "This deletes {run}: {count} groups with their scores and trainings, {size}. Finished LoRA files are kept.",
        { run: run.run, count: run.groups, size: formatBytes(run.bytes) },
      ),
      type: "delete",
    });
    if (!isConfirmed) return;
    try {
      await routes.deleteRun(run.run);
    } catch (error) {
      toast("error", t("The run could not be deleted"), error.message);
    }
    await this.load();
  }
}

/** Return how far a run has come, in words. */
function progressOf({ scores, trainings }) {
  if (!scores.length) return t("no scores yet");
  if (!trainings.length) return t("scored, not trained");
  const finished = trainings.filter((training) => training.state === "finished").length;
  return t("{finished} of {total} trainings finished", { finished, total: trainings.length });
}

/** Show a run's trainings and groups in a window. */
function openRun(run) {
  const trainings = run.trainings.map((training) => {
    const view = new TrainingView();
    view.show({ run: run.run, training: training.training });
    return view.element;
  });
  const groups = new GroupsView();
  openWindow(run.name, el("div", { class: "gdro-run-page" }, ...trainings, groups.element));
  groups.show({ run: run.run });
}

/** Open the workflow that last worked on a run, in a new tab of the canvas. */
async function openWorkflow(run) {
  try {
    const workflow = await routes.readWorkflow(run.run);
    await app.loadGraphData(workflow, true, true, run.name);
  } catch (error) {
    toast("error", t("The workflow could not be opened"), error.message);
  }
}

function rateRun(run) {
  const view = new RatingView();
  openWindow(t("Rate {name}", { name: run.name }), view.element);
  view.show({ run: run.run });
}

async function copyName(name) {
  try {
    await navigator.clipboard.writeText(name);
    toast("success", t("Copied"), name);
  } catch {
    // Outside a secure context there is no clipboard: show the name, so that it can be copied by hand.
    openWindow(
      t("LoRA name"),
      el("input", { value: name, readonly: true, "aria-label": t("LoRA name") }),
    );
  }
}
