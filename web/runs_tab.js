/** The sidebar's list of runs. */

import { app } from "../../scripts/app.js";
import { el, fileSize, openWindow } from "./dom.js";
import { GroupsView } from "./groups_view.js";
import { RatingView } from "./rating_view.js";
import * as routes from "./routes.js";
import { toast } from "./toast.js";
import { TrainingView } from "./training_view.js";
import { t } from "./words.js";

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
        el("button", { type: "button", text: t("Refresh"), click: () => this.load() }),
      ),
      this.status,
      this.list,
    );
  }

  show(container) {
    container.replaceChildren(this.element);
    this.load();
  }

  async load() {
    try {
      const runs = await routes.listRuns();
      const size = runs.reduce((sum, run) => sum + run.bytes, 0);
      this.status.textContent = runs.length
        ? t("{count} runs, {size}", { count: runs.length, size: fileSize(size) })
        : t("No runs yet: a GDRO Group Rollout makes one.");
      this.list.replaceChildren(...runs.map((run) => this.#row(run)));
    } catch (error) {
      this.status.textContent = error.message;
    }
  }

  #row(run) {
    const { trainings } = run;
    const finished = trainings.filter((training) => training.state === "finished").length;
    const state = !run.scores.length
      ? t("no scores yet")
      : !trainings.length
        ? t("scored, not trained")
        : t("{finished} of {total} trainings finished", { finished, total: trainings.length });
    const rewards = [...new Set(run.scores.map((name) => name.replace(/-[0-9a-f]+\.jsonl$/, "")))];
    const loras = trainings.map((training) => training.lora).filter(Boolean);
    return el(
      "li",
      { class: "gdro-run" },
      run.picture
        ? el("img", { src: routes.imageUrl(run.run, run.picture, 0, true), alt: "", loading: "lazy" })
        : el("span", { class: "gdro-nothing" }),
      el(
        "div",
        {},
        el("h3", { text: run.name }),
        el("p", { text: `${run.run} · ${run.model}` }),
        el("p", {
          text: [t("{count} groups", { count: run.groups }), rewards.join(", "), fileSize(run.bytes)]
            .filter(Boolean)
            .join(" · "),
        }),
        el("p", { text: state }),
        el(
          "div",
          { class: "gdro-bar" },
          el("button", { type: "button", text: t("Open"), click: () => openRun(run) }),
          run.workflow
            ? el("button", {
                type: "button", text: t("Go on"),
                title: t("Opens the workflow that made this run; Run goes on where it stopped"),
                click: () => goOn(run),
              })
            : null,
          el("button", { type: "button", text: t("Rate"), click: () => rateRun(run) }),
          ...loras.map((name) =>
            el("button", {
              type: "button", text: t("Copy LoRA name"), title: name, click: () => copy(`gdro/${name}`),
            }),
          ),
          el("button", {
            type: "button", text: t("Delete"), "aria-label": t("Delete {name}", { name: run.name }),
            click: () => this.#delete(run),
          }),
        ),
      ),
    );
  }

  async #delete(run) {
    const sure = await app.extensionManager.dialog.confirm({
      title: t("Delete {name}?", { name: run.name }),
      message: t(
        "Deletes {run}: {count} groups, their scores and trainings, {size}. Finished LoRA files stay.",
        { run: run.run, count: run.groups, size: fileSize(run.bytes) },
      ),
      type: "delete",
    });
    if (!sure) return;
    try {
      await routes.deleteRun(run.run);
    } catch (error) {
      toast("error", t("Not deleted"), error.message);
    }
    await this.load();
  }
}

/** A window with a run's groups and its trainings. */
function openRun(run) {
  const groups = new GroupsView();
  const trainings = run.trainings.map((training) => {
    const view = new TrainingView();
    view.show({ run: run.run, training: training.training });
    return view.element;
  });
  openWindow(run.name, el("div", { class: "gdro-run-page" }, ...trainings, groups.element));
  groups.show({ run: run.run });
}

/** Open the graph that worked on a run last, in a tab of its own. */
async function goOn(run) {
  try {
    const workflow = await routes.readWorkflow(run.run);
    await app.loadGraphData(workflow, true, true, run.name);
  } catch (error) {
    toast("error", t("The workflow cannot be opened"), error.message);
  }
}

function rateRun(run) {
  const view = new RatingView();
  openWindow(t("Rate {name}", { name: run.name }), view.element);
  view.show({ run: run.run });
}

async function copy(name) {
  try {
    await navigator.clipboard.writeText(name);
    toast("success", t("Copied"), name);
  } catch {
    // A page that is not served safely has no clipboard: show the name to be copied by hand.
    openWindow(
      t("LoRA name"),
      el("input", { value: name, readonly: true, "aria-label": t("LoRA name") }),
    );
  }
}
