// What is served: the model, how good it is, what it knows, and what it takes.

import { address, hasKey } from "./api.js";
import { byId, make } from "./dom.js";
import { service } from "./service.js";
import { accuracy, bytes, percent, pixels, sides, some } from "./words.js";

/** Fill the line at the top and the section at the bottom. */
export function showAbout() {
  const { model, info } = service;
  byId("served").replaceChildren(make("a", { href: "#about" }, `${model.name} ${model.version}`), `, ${some(model.labels.length, "class")}`);
  const place = byId("about");
  place.hidden = false;
  place.replaceChildren(
    make("h2", { id: "about-title" }, "About the model"),
    make("dl", {}, ...facts(model, info).flatMap(([term, text, small]) => [make("div", {}, make("dt", {}, term),
      make("dd", {}, text, small ? make("small", {}, small) : null))])),
    classes(model.labels),
    hasKey() ? "" : make("a", { href: address("openapi.json") }, "The API as OpenAPI"),
  );
}

function facts(model, info) {
  const { evaluation: measured, input } = model;
  const limits = info.limits;
  return [
    ["Model", `${model.name}, version ${model.version}`, `${model.architecture}, made ${model.created.slice(0, 10)}`],
    ["Accuracy", `${accuracy(measured.top1)} of ${some(measured.samples, "image")}`, `${measured.dataset}; ${measured.split}`],
    ["Calibration error", accuracy(measured.calibration_error), "how far “90 % sure” is from right nine times in ten, on average"],
    ["Unsure", `below ${percent(model.threshold)}`, model.novelty_threshold == null ? ""
      : `or where a picture is more unusual than ${percent(model.novelty_threshold)} of known ones`],
    ["Sees", `${sides(input)} pixels`, "the middle of each picture, made smaller"],
    ["Takes", info.formats.map((format) => format.toUpperCase()).join(", "),
      `up to ${bytes(limits.max_body_bytes)} and ${pixels(limits.max_pixels)}`],
    ["Computed in", info.precision, info.provider.replace("ExecutionProvider", "")],
  ];
}

const classes = (labels) => make("details", {}, make("summary", {}, `What it knows: ${some(labels.length, "class")}`),
  make("ul", { class: "classes" }, ...labels.map((label) => make("li", {}, label))));
