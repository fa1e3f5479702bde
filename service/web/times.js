// How long an answer took, by stage: what the header Server-Timing says, and the time of the whole request.

import { barOf } from "./bar.js";
import { make } from "./dom.js";
import { milliseconds } from "./words.js";

const STAGES = {
  read: "read the request",
  decode: "unpack the picture",
  queue: "wait for its turn",
  infer: "run the network",
  postprocess: "write the answer",
};

export function timesOf({ stages, took }) {
  const inside = stages.reduce((sum, { ms }) => sum + ms, 0);
  const rows = [...stages, { stage: "on the way", ms: Math.max(0, took - inside) }];
  return [
    make("p", {}, `${milliseconds(took)} from sending to the answer, ${milliseconds(inside)} of it in the service.`),
    make("ol", { class: "bars" }, ...rows.map(({ stage, ms }) =>
      make("li", {}, make("div", { class: "bar" }, ...barOf(STAGES[stage] ?? stage, milliseconds(ms), ms / Math.max(took, inside)))))),
  ];
}
