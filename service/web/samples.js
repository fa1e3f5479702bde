// Drawings that come with the page, for who has no picture at hand. Only those are offered that the model has a class for.

import { address, ask } from "./api.js";
import { byId, make, notify } from "./dom.js";
import { service } from "./service.js";

const SAMPLES = { // by file: the class that it shows
  "ball.jpg": "soccer ball",
  "balloon.jpg": "balloon",
  "traffic-light.jpg": "traffic light",
  "clock.jpg": "wall clock",
  "ship.jpg": "ship",
};

/** give: called with the files of the one that is clicked. */
export function offerSamples(give) {
  const fitting = Object.entries(SAMPLES).filter(([, label]) => service.model.labels.includes(label));
  byId("samples").hidden = fitting.length === 0;
  byId("samples").querySelector("ul").replaceChildren(...fitting.map(([name, label]) => make("li", {}, button(name, label, give))));
}

function button(name, label, give) {
  return make("button", { type: "button", class: "sample", onclick: async () => {
    try {
      give([new File([await (await ask(`page/${name}`)).blob()], name)]);
    } catch (refusal) {
      notify(refusal.title);
    }
  } }, make("img", { src: address(`page/${name}`), alt: `A drawing of a ${label}`, width: 96, height: 72 }));
}
