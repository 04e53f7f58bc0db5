/** ComfyUI-GDRO on the canvas: a panel on each node that has something to show, and the list of runs. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { foldAdvanced } from "./advanced.js";
import { CompareView } from "./compare_view.js";
import { el } from "./dom.js";
import { GroupsView } from "./groups_view.js";
import { t, translateChoices } from "./i18n.js";
import { keepUndo } from "./keys.js";
import { findNode, isOpen, recordLocation } from "./location.js";
import { breakBetweenWords } from "./node_text.js";
import { Panel } from "./panel.js";
import { Purposes } from "./purposes.js";
import { RatingView } from "./rating_view.js";
import { restoreValues, saveWithoutGaps } from "./restore.js";
import { RolloutsView } from "./rollouts_view.js";
import { RunsTab } from "./runs_tab.js";
import { SETTINGS } from "./settings.js";
import { translateTitles } from "./titles.js";
import { toast } from "./toast.js";
import { TrainingView } from "./training_view.js";
import { colorWires, explainRefusals } from "./wires.js";

/** The view on each node; nodes/stage_node.py has the same names. */
const VIEWS = {
  GDRO_GroupRollout: GroupsView,
  GDRO_ImportGroups: GroupsView,
  GDRO_ScoreRollout: GroupsView,
  GDRO_RatingReward: RatingView,
  GDRO_TrainLoRA: TrainingView,
  GDRO_EvaluateAlignment: CompareView,
  GDRO_CompareRollouts: RolloutsView,
};
const EVENTS = ["location", "rollout", "training", "train_step", "preview", "progress", "evaluation"];
const ROLLOUT_EVENTS = ["rollout", "preview"];
const WORK_EVENTS = ["train_step", "preview"];

keepUndo();

const panels = new WeakMap(); // by node
const workingNodes = new Set(); // execution ids of nodes that did something; a cached node has no news
let current = null; // node and workflow of the latest message

function attachPanel(node) {
  if (!node.comfyClass?.startsWith("GDRO_")) return;
  foldAdvanced(node);
  saveWithoutGaps(node);
  const View = VIEWS[node.comfyClass];
  const panel = View && new Panel(node, View);
  const purposes = new Purposes(node, (words) => panel?.view.showPurpose?.(words));
  if (panel) panels.set(node, panel);
  const { onConfigure } = node;
  node.onConfigure = function (saved, ...rest) {
    onConfigure?.call(this, saved, ...rest);
    restoreValues(this, saved);
    purposes.refresh();
    // Where the node is in the graph is not known before the whole graph is loaded.
    if (panel) setTimeout(() => panel.refresh(), 0);
  };
}

/** Give a message to the panel of its node; return the node if it is on the open canvas. */
function deliver(event, message) {
  const node = recordLocation(message);
  panels.get(node ?? {})?.receive(event, message);
  return node;
}

function onMessage(event, message) {
  const node = deliver(event, message);
  current = { node: message.node, workflow: message.workflow };
  if (WORK_EVENTS.includes(event)) workingNodes.add(String(message.node));
  if (ROLLOUT_EVENTS.includes(event)) deliverToFollowers(node, event, message);
}

/** Give a rollout's message to the nodes after it whose views follow a rollout. */
function deliverToFollowers(node, event, message) {
  const path = String(message.node).split(":").slice(0, -1);
  for (const follower of node?.getOutputNodes?.(0) ?? []) {
    if (!VIEWS[follower.comfyClass]?.followsRollout) continue;
    deliver(event, { ...message, node: [...path, follower.id].join(":") });
  }
}

function onExecuted({ output, display_node: displayNode, node }) {
  const executionId = displayNode ?? node;
  const [location] = output?.gdro ?? [];
  if (location) deliver("end", { ...location, node: executionId });
  if (workingNodes.delete(String(executionId))) announceEnd(findNode(executionId));
}

/** Say in the corner of the page how a long piece of work ended, once its panel shows it. */
async function announceEnd(node) {
  const panel = panels.get(node ?? {});
  await panel?.messages;
  const outcome = panel?.view.outcome;
  if (outcome) toast(outcome.severity, node.title, outcome.text);
}

/** Let the panel of the node that was working show how far it came. */
function onInterrupted() {
  workingNodes.clear();
  if (current && isOpen(current.workflow)) deliver("end", current);
  current = null;
}

app.registerExtension({
  name: "GDRO.Canvas",
  settings: SETTINGS,
  setup() {
    const stylesheet = new URL("./gdro.css", import.meta.url).href;
    document.head.append(el("link", { rel: "stylesheet", href: stylesheet }));
    for (const event of EVENTS) {
      api.addEventListener(`gdro.${event}`, ({ detail }) => onMessage(event, detail));
    }
    api.addEventListener("executed", ({ detail }) => onExecuted(detail));
    api.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
      if (findNode(nodeId)?.comfyClass?.startsWith("GDRO_")) breakBetweenWords(text);
    });
    for (const event of ["execution_error", "execution_interrupted"]) {
      api.addEventListener(event, onInterrupted);
    }
    colorWires();
    explainRefusals();
    const runs = new RunsTab();
    app.extensionManager.registerSidebarTab({
      id: "gdro-runs",
      icon: "pi pi-chart-line",
      title: t("GDRO runs"),
      tooltip: t("GDRO runs"),
      type: "custom",
      render: (container) => runs.show(container),
    });
  },
  afterConfigureGraph: translateTitles,
  beforeRegisterNodeDef: (_, definition) => translateChoices(definition),
  nodeCreated: attachPanel,
});
