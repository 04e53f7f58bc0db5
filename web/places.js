/**
 * Which run, training, ... a node shows.
 *
 * It is kept in the node's properties, and so in the workflow, by the node's execution id ("5", or
 * "12:5" inside of subgraph 12): a copy of a node does not show what its original did. What is heard
 * about a workflow that is not open now is kept until it is.
 */

import { app } from "../../scripts/app.js";

const NAMES = ["run", "scores", "training", "evaluation"];
const heard = new Map(); // "<workflow>/<execution id>" -> place

const root = () => app.rootGraph ?? app.graph;

/** The node of an execution id, in the workflow that is open. */
export function nodeOf(executionId) {
  let graph = root();
  const path = String(executionId).split(":");
  const last = path.pop();
  for (const id of path) graph = graph?.getNodeById(Number(id))?.subgraph;
  return graph?.getNodeById(Number(last)) ?? null;
}

/** Whether a message is about the workflow that is open. */
export function isOpen(workflow) {
  return !workflow || !root()?.id || root().id === workflow;
}

/** Take in what a message says of where a node's work lies; the node, if it is here. */
export function learn(message) {
  const place = Object.fromEntries(
    NAMES.filter((name) => typeof message[name] === "string").map((name) => [name, message[name]]),
  );
  const executionId = String(message.node);
  const key = `${message.workflow ?? root()?.id}/${executionId}`;
  const before = heard.get(key) ?? {};
  heard.set(key, place.run && place.run !== before.run ? place : { ...before, ...place });
  if (!isOpen(message.workflow)) return null;
  const node = nodeOf(executionId);
  if (node && Object.keys(place).length) write(node, executionId, heard.get(key));
  return node;
}

function write(node, executionId, place) {
  const known = node.properties.gdro ?? {};
  if (NAMES.every((name) => known[executionId]?.[name] === place[name])) return;
  // Between these two the canvas takes note of a change, so that it is in the draft that it keeps.
  app.canvas?.emitBeforeChange?.();
  node.properties.gdro = { ...known, [executionId]: place };
  app.canvas?.emitAfterChange?.();
}

/** The places of a node, by execution id: several where its subgraph is used several times. */
export function placesOf(node) {
  const found = new Map();
  const mine = (id) => id === String(node.id) || id.endsWith(`:${node.id}`);
  const isRoot = node.graph === root();
  const add = (id, place) => {
    if (place?.run && mine(id) && isRoot === !id.includes(":") && nodeOf(id) === node) {
      found.set(id, place);
    }
  };
  for (const [id, place] of Object.entries(node.properties?.gdro ?? {})) add(id, place);
  for (const [key, place] of heard) {
    const cut = key.indexOf("/");
    if (key.slice(0, cut) === String(root()?.id)) add(key.slice(cut + 1), place);
  }
  return found;
}
