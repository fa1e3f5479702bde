// What the service says of itself: its model, its limits, and which of its features there are.

import { askJson } from "./api.js";

/** The live model, the candidate, limits and the paths of the API; empty before ``learn``. */
export const service = { model: null, candidate: null, info: null, explains: false, finds: false };

/** Ask for all of it. Throws Refusal. */
export async function learn() {
  const [models, info, document] = await Promise.all([askJson("v1/models"), askJson("v1/info"), askJson("openapi.json")]);
  Object.assign(service, {
    model: models.models[0],
    candidate: models.candidate,
    info,
    explains: "/v1/explain" in document.paths,
    finds: "/v1/similar" in document.paths && Boolean(info.index),
  });
}

/** Whether an answer is of a version that is known here. */
export const isKnown = ({ model, version }) =>
  [service.model, service.candidate].some((known) => known?.name === model && known.version === version);

/** How many classes are asked for with each picture. */
export const classesAsked = () => Math.min(5, service.model?.labels.length ?? 1);
