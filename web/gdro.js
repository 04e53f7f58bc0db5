/** ComfyUI-GDRO on the canvas: a panel on each node that has something to show, and the list of runs. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { CompareView } from "./compare_view.js";
import { el } from "./dom.js";
import { GroupsView } from "./groups_view.js";
import { isOpen, learn, nodeOf, placesOf } from "./places.js";
import { RatingView } from "./rating_view.js";
import { restore } from "./restore.js";
import { RunsTab } from "./runs_tab.js";
import { SETTINGS } from "./settings.js";
import { toast } from "./toast.js";
import { TrainingView } from "./training_view.js";
import { t, translateChoices } from "./words.js";

/** The view on each node; nodes/stage_node.py has the same names. */
const VIEWS = {
  GDRO_GroupRollout: GroupsView,
  GDRO_ImportGroups: GroupsView,
  GDRO_ScoreRollout: GroupsView,
  GDRO_RatingReward: RatingView,
  GDRO_TrainLoRA: TrainingView,
  GDRO_EvaluateAlignment: CompareView,
};
const EVENTS = ["rollout", "training", "train_step", "preview", "evaluation"];
const MARGIN = 10;

const panels = new WeakMap();
const worked = new Set(); // nodes that did something in this execution: a cached one has no news
let running = null; // what the node that runs now is called, and in which workflow

/** A view inside of a node, with a choice of instance where the node's subgraph is used more than once. */
class Panel {
  constructor(node, View) {
    this.node = node;
    this.view = new View(() => this.#resize());
    this.chooser = el("select", {
      "aria-label": t("Which use of this subgraph"), hidden: true, change: () => this.#select(),
    });
    this.element = el("div", { class: "gdro-panel" }, this.chooser, this.view.element);
    const widget = node.addDOMWidget("gdro_panel", "gdro", this.element, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getMinHeight: () => this.view.height + 2 * MARGIN,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false;
    this.#resize();
  }

  #resize() {
    const height = `${this.view.height}px`;
    if (this.element.style.minHeight === height) return;
    this.element.style.minHeight = height;
    const { node } = this;
    const least = node.computeSize?.();
    if (least && node.size[1] < least[1]) node.setSize([node.size[0], least[1]]);
    node.setDirtyCanvas?.(true, true);
  }

  /** Look up what the node stands for, and show it; `id` says which instance. */
  async refresh(id = this.chooser.value) {
    const places = placesOf(this.node);
    this.chooser.hidden = places.size < 2;
    this.chooser.replaceChildren(
      ...[...places.keys()].map((key) =>
        el("option", { value: key, text: t("Node {key}", { key }) }),
      ),
    );
    if (!places.size) return;
    this.chooser.value = places.has(id) ? id : places.keys().next().value;
    await this.#select();
  }

  async #select() {
    const place = placesOf(this.node).get(this.chooser.value);
    const shown = JSON.stringify(place);
    if (!place || shown === this.shown) return;
    this.shown = shown;
    await this.view.show(place);
  }

  /** Take a message about one instance, which is shown from now on. */
  async receive(event, detail) {
    await this.refresh(String(detail.node));
    await this.view.receive(event, detail);
  }
}

function attach(node) {
  if (!node.comfyClass?.startsWith("GDRO_")) return;
  const View = VIEWS[node.comfyClass];
  const panel = View && new Panel(node, View);
  if (panel) panels.set(node, panel);
  const configured = node.onConfigure;
  node.onConfigure = function (...given) {
    configured?.apply(this, given);
    restore(this, given[0]);
    // Only once the whole graph is there is it known where in it this node is.
    if (panel) setTimeout(() => panel.refresh(), 0);
  };
}

const queue = new WeakMap(); // panel -> the work on its messages, one after the other

function tell(event, detail) {
  const node = hear(event, detail);
  if (event !== "end") {
    running = { node: detail.node, workflow: detail.workflow };
    if (event === "train_step" || event === "preview") worked.add(String(detail.node));
  }
  if (event !== "rollout" && event !== "preview") return;
  for (const next of node?.getOutputNodes?.(0) ?? []) {
    if (!VIEWS[next.comfyClass]?.follows) continue;
    const id = [...String(detail.node).split(":").slice(0, -1), next.id].join(":");
    hear(event, { ...detail, node: id });
  }
}

/** Hand a message to the panel of its node; the node, if it is here. */
function hear(event, detail) {
  const node = learn(detail);
  const panel = node && panels.get(node);
  if (!panel) return node;
  const work = (queue.get(panel) ?? Promise.resolve()).then(() => panel.receive(event, detail));
  queue.set(panel, work.catch((error) => console.error("GDRO", error)));
  return node;
}

/** Say in the corner of the page that a long piece of work is done, once its panel has the news. */
async function announce(node) {
  const panel = node && panels.get(node);
  if (!panel?.view.announces) return;
  await queue.get(panel);
  toast("success", node.title, panel.view.status.textContent);
}

function end() {
  worked.clear();
  if (running && isOpen(running.workflow)) {
    const panel = panels.get(nodeOf(running.node) ?? {});
    if (panel) tell("end", running);
  }
  running = null;
}

app.registerExtension({
  name: "GDRO.Canvas",
  settings: SETTINGS,
  setup() {
    const link = el("link", { rel: "stylesheet", href: new URL("./gdro.css", import.meta.url).href });
    document.head.append(link);
    for (const event of EVENTS) {
      api.addEventListener(`gdro.${event}`, ({ detail }) => tell(event, detail));
    }
    api.addEventListener("executed", ({ detail }) => {
      const [place] = detail.output?.gdro ?? [];
      const node = detail.display_node ?? detail.node;
      if (place) tell("end", { ...place, node });
      if (worked.delete(String(node))) announce(nodeOf(node));
    });
    for (const event of ["execution_error", "execution_interrupted"]) {
      api.addEventListener(event, end);
    }
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
  beforeRegisterNodeDef: (_, definition) => translateChoices(definition),
  nodeCreated: attach,
});
