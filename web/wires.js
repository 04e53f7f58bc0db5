/** The wires of our types: a colour for each, and the reason why one is refused. */

import { app } from "../../scripts/app.js";
import { t } from "./i18n.js";
import { toast } from "./toast.js";

/** Colours that stand out on dark and light canvases; gdro.css has the same for Nodes 2.0. */
const COLORS = {
  GDRO_MODEL: "#9d7bea",
  GDRO_PROMPTS: "#f2a65a",
  GDRO_ROLLOUT: "#4fa8e8",
  GDRO_REWARD: "#e8c547",
  GDRO_ALIGNED: "#58b368",
};

/** The node that belongs between an output's type and an input's, by both. */
const BETWEEN = {
  "MODEL>GDRO_MODEL": "GDRO_ModelFromWires",
  "CLIP>GDRO_MODEL": "GDRO_ModelFromWires",
  "VAE>GDRO_MODEL": "GDRO_ModelFromWires",
  "GDRO_MODEL>MODEL": "GDRO_ModelForComfyUI",
  "GDRO_ALIGNED>MODEL": "GDRO_LoadAlignedLoRA",
  "STRING>GDRO_PROMPTS": "GDRO_PromptSet",
  "IMAGE>GDRO_ROLLOUT": "GDRO_ImportGroups",
  "GDRO_ROLLOUT>IMAGE": "GDRO_RolloutImages",
  "GDRO_PROMPTS>GDRO_ROLLOUT": "GDRO_GroupRollout",
  "GDRO_MODEL>GDRO_ROLLOUT": "GDRO_GroupRollout",
  "FLOAT>GDRO_REWARD": "GDRO_ScoresFromGraph",
  "GDRO_ROLLOUT>GDRO_ALIGNED": "GDRO_TrainLoRA",
};

/** Give our types their colours, which a change of the theme does not take away. */
export function colorWires() {
  const tables = [app.canvas.default_connection_color_byType, globalThis.LGraphCanvas?.link_type_colors];
  for (const table of tables.filter(Boolean)) {
    for (const [type, color] of Object.entries(COLORS)) {
      Object.defineProperty(table, type, {
        get: () => color, set: () => {}, enumerable: true, configurable: true,
      });
    }
  }
}

/** Say why a wire is refused where it is dropped on a node, if that node or the wire is one of ours. */
export function explainRefusals() {
  app.canvas.linkConnector?.events?.addEventListener("after-drop-links", ({ detail }) => {
    const { renderLinks, event } = detail;
    const from = renderLinks[0];
    if (!from || from.toType !== "input") return;
    const node = (app.canvas.graph ?? app.graph).getNodeOnPos(event.canvasX, event.canvasY);
    const reason = node && node !== from.node && refusal(String(from.fromSlot.type), node);
    if (reason) toast("info", node.title, reason);
  });
}

/** Return why no input of a node takes a type, with the node to put between; null if one takes it. */
export function refusal(type, node) {
  const inputs = node.inputs ?? [];
  const isOurs = type.startsWith("GDRO_") || node.comfyClass?.startsWith("GDRO_");
  if (!isOurs || inputs.some((input) => LiteGraph.isValidConnection(type, input.type))) return null;
  const between = inputs.map((input) => BETWEEN[`${type}>${input.type}`]).find(Boolean);
  if (between) {
    const definition = LiteGraph.registered_node_types[between];
    return t("{type} does not fit here as it is. Put “{node}” between.", {
      type, node: definition?.title ?? between,
    });
  }
  const wires = inputs.filter((input) => !input.widget).map((input) => String(input.type));
  const types = [...new Set(wires)].join(", ");
  return types
    ? t("{type} does not fit here. This node takes: {types}.", { type, types })
    : t("{type} does not fit here. This node takes no wires.", { type });
}
