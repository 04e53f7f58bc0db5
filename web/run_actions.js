/** What the list of runs does with a run. */

import { app } from "../../scripts/app.js";
import { el, openWindow } from "./dom.js";
import { GroupsView } from "./groups_view.js";
import { t } from "./i18n.js";
import { RatingView } from "./rating_view.js";
import * as routes from "./routes.js";
import { toast } from "./toast.js";
import { TrainingView } from "./training_view.js";

const LOADER = "GDRO_LoadAlignedLoRA";

/** Show a run's trainings and groups in a window. */
export function openRun(run) {
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
export async function openWorkflow(run) {
  try {
    const workflow = await routes.readWorkflow(run.run);
    await app.loadGraphData(workflow, true, true, run.name);
  } catch (error) {
    toast("error", t("The workflow could not be opened"), error.message);
  }
}

/** Rate the pictures of a run in a window. */
export function rateRun(run) {
  const view = new RatingView();
  openWindow(t("Rate {name}", { name: run.name }), view.element);
  view.show({ run: run.run });
}

/** Add a node with a LoRA to the middle of the graph that is open. */
export function addLoRA(name) {
  const { canvas } = app;
  const node = LiteGraph.createNode(LOADER);
  const widget = node?.widgets?.find(({ name: one }) => one === "lora_name");
  if (!widget) return;
  // The list on the node may be older than the file.
  const values = widget.options.values;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  widget.value = name;
  const [x, y, width, height] = canvas.ds.visible_area;
  node.pos = [x + width / 2 - node.size[0] / 2, y + height / 2 - node.size[1] / 2];
  canvas.emitBeforeChange?.();
  (canvas.graph ?? app.graph).add(node);
  canvas.emitAfterChange?.();
  canvas.selectNode?.(node);
  toast("success", t("Added to the graph"), name);
}

/** Compare the files of a run with their checksums, and show what is wrong. */
export async function verifyRun(run) {
  let report;
  try {
    report = await routes.verifyRun(run.run);
  } catch (error) {
    toast("error", run.name, error.message);
    return;
  }
  const { intact, unknown, findings } = report;
  const summary = t("{intact} files are intact, {unknown} have no checksum, {damaged} are damaged", {
    intact, unknown, damaged: findings.length,
  });
  if (!findings.length) {
    toast("success", run.name, summary);
    return;
  }
  const rows = findings.map(({ file, found, remedy }) =>
    el("li", {}, el("b", { text: file }), `: ${found}. ${remedy}`),
  );
  openWindow(run.name, el("div", {}, el("p", { text: summary }), el("ul", {}, ...rows)));
}
