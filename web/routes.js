/** Requests to the server's routes under /gdro/. */

import { api } from "../../scripts/api.js";

const encode = encodeURIComponent;
const runPath = (name) => `/gdro/runs/${encode(name)}`;
const trainingPath = (location) =>
  `${runPath(location.run)}/trainings/${encode(location.training)}`;
const evaluationPath = (location) =>
  `${trainingPath(location)}/evaluations/${encode(location.evaluation)}`;

/** Return the JSON of a response; one that is not a success is an Error with its `status`. */
async function request(path, options) {
  const response = await api.fetchApi(path, options);
  const value = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(value.error ?? `the server answered with status ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return value;
}

function send(path, method, body) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method, headers, body: JSON.stringify(body) });
}

export const listRuns = () => request("/gdro/runs");
/** The runs, trainings and evaluations that nodes work on at this moment. */
export const listWorking = () => request("/gdro/working");
export const deleteRun = (name) => request(runPath(name), { method: "DELETE" });
/** Compare the files of a run with their checksums. */
export const verifyRun = (name) => request(`${runPath(name)}/verify`);
export const readWorkflow = (name) => request(`${runPath(name)}/workflow`);
export const readGroups = (name, query) =>
  request(`${runPath(name)}/groups?${new URLSearchParams(query)}`);
export const readTraining = (location) => request(trainingPath(location));
/** @param {"stop"|"save"|"continue"} command for a running training, or one that was stopped */
export const sendCommand = (location, command) =>
  send(`${trainingPath(location)}/wish`, "POST", { wish: command });
export const readEvaluation = (location) => request(evaluationPath(location));
export const readRatings = (name) => request(`${runPath(name)}/ratings`);
/** @param {{ratings: Array}|{ranks: Array}} rating */
export const writeRating = (name, group, rating) =>
  send(`${runPath(name)}/ratings`, "PUT", { group, ...rating });

const imagePath = (name, group, index) =>
  `${runPath(name)}/groups/${encode(group)}/images/${index}`;
export const imageUrl = (name, group, index) => api.apiURL(imagePath(name, group, index));
export const thumbnailUrl = (name, group, index) =>
  api.apiURL(`${imagePath(name, group, index)}/thumbnail`);
/** @param {"samples"|"validation"} kind @param {number|"base"} step */
export const trainingImageUrl = (location, kind, step) =>
  api.apiURL(`${trainingPath(location)}/pictures/${kind}/${step}`);
export const reportUrl = (location) => api.apiURL(`${evaluationPath(location)}/report`);
/** @param {number} model 0 is the base, 1 the first LoRA */
export const pairUrl = (location, pair, model) =>
  api.apiURL(`${evaluationPath(location)}/pairs/${pair}/${model}`);
