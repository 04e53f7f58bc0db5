/**
 * Which run, scores, training and evaluation a node's panel shows, and which other run beside it: its location.
 *
 * Locations are kept in the node's properties, and so in the workflow, under the node's execution id
 * ("5", or "12:5" inside subgraph 12): a copy of a node does not show what its original did. Those of a
 * workflow that is not open are remembered until it is.
 */

import { app } from "../../scripts/app.js";

const KEYS = ["run", "scores", "training", "evaluation", "other", "other_scores"];
const remembered = new Map(); // "<workflow id>/<execution id>" -> location

const rootGraph = () => app.rootGraph ?? app.graph;

/** Return the node with an execution id in the open workflow, or null. */
export function findNode(executionId) {
  let graph = rootGraph();
  const path = String(executionId).split(":");
  const nodeId = path.pop();
  for (const id of path) graph = graph?.getNodeById(Number(id))?.subgraph;
  return graph?.getNodeById(Number(nodeId)) ?? null;
}

/** Return whether a message with this workflow id is about the open workflow. */
export function isOpen(workflowId) {
  return !workflowId || !rootGraph()?.id || rootGraph().id === workflowId;
}

/** Record the location that a message names; return the message's node if its workflow is open. */
export function recordLocation(message) {
  const location = Object.fromEntries(
    KEYS.filter((key) => typeof message[key] === "string").map((key) => [key, message[key]]),
  );
  const executionId = String(message.node);
  const key = `${message.workflow ?? rootGraph()?.id}/${executionId}`;
  const previous = remembered.get(key) ?? {};
  const isNewRun = location.run && location.run !== previous.run;
  remembered.set(key, isNewRun ? location : { ...previous, ...location });
  if (!isOpen(message.workflow)) return null;
  const node = findNode(executionId);
  if (node && Object.keys(location).length) save(node, executionId, remembered.get(key));
  return node;
}

function save(node, executionId, location) {
  const saved = node.properties.gdro ?? {};
  if (KEYS.every((key) => saved[executionId]?.[key] === location[key])) return;
  // Between these two calls the canvas notices a change, and writes it to the draft that it keeps.
  app.canvas?.emitBeforeChange?.();
  node.properties.gdro = { ...saved, [executionId]: location };
  app.canvas?.emitAfterChange?.();
}

/** Return the locations of a node by execution id; there are several if its subgraph is used twice. */
export function locationsOf(node) {
  const locations = new Map();
  const isRoot = node.graph === rootGraph();
  const add = (id, location) => {
    const isOwn = id === String(node.id) || id.endsWith(`:${node.id}`);
    if (location?.run && isOwn && isRoot === !id.includes(":") && findNode(id) === node) {
      locations.set(id, location);
    }
  };
  for (const [id, location] of Object.entries(node.properties?.gdro ?? {})) add(id, location);
  for (const [key, location] of remembered) {
    const slash = key.indexOf("/");
    if (key.slice(0, slash) === String(rootGraph()?.id)) add(key.slice(slash + 1), location);
  }
  return locations;
}
