/** What the server's routes under /gdro/ give. */

import { api } from "../../scripts/api.js";

const part = encodeURIComponent;
const run = (name) => `/gdro/runs/${part(name)}`;
const training = (place) => `${run(place.run)}/trainings/${part(place.training)}`;
const evaluation = (place) => `${training(place)}/evaluations/${part(place.evaluation)}`;

async function ask(path, options) {
  const answer = await api.fetchApi(path, options);
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(value.error ?? `the server answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return value;
}

function send(path, method, body) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method, headers, body: JSON.stringify(body) });
}

export const listRuns = () => ask("/gdro/runs");
export const deleteRun = (name) => ask(run(name), { method: "DELETE" });
export const readWorkflow = (name) => ask(`${run(name)}/workflow`);
export const readGroups = (name, query) =>
  ask(`${run(name)}/groups?${new URLSearchParams(query)}`);
export const readTraining = (place) => ask(training(place));
export const wish = (place, what) => send(`${training(place)}/wish`, "POST", { wish: what });
export const readEvaluation = (place) => ask(evaluation(place));
export const readRatings = (name) => ask(`${run(name)}/ratings`);
/** `given` is {ratings: [...]} or {ranks: [...]}. */
export const writeRatings = (name, group, given) =>
  send(`${run(name)}/ratings`, "PUT", { group, ...given });

export const imageUrl = (name, group, image, small = false) =>
  api.apiURL(
    `${run(name)}/groups/${part(group)}/images/${image}${small ? "/thumbnail" : ""}`,
  );
export const sampleUrl = (place, kind, step) =>
  api.apiURL(`${training(place)}/pictures/${kind}/${step}`);
export const reportUrl = (place) => api.apiURL(`${evaluation(place)}/report`);
export const pairUrl = (place, pair, model) =>
  api.apiURL(`${evaluation(place)}/pairs/${pair}/${model}`);
