// Pictures of the service's index that look like one: POST /v1/similar, and their thumbnails.

import { ask, askAbout, onlyResult, Refusal } from "./api.js";
import { make } from "./dom.js";
import { service } from "./service.js";

const MANY = 8;
const known = new WeakMap(); // by picture: the promise of its section, or null where the service has no index

/** A section that shows them; null where the service has no index, or nothing alike. Throws nothing. */
export async function alikeOf(picture) {
  if (!service.finds) return null;
  if (!known.has(picture)) known.set(picture, find(picture));
  return known.get(picture);
}

async function find(picture) {
  try {
    const response = await askAbout(`v1/similar?k=${MANY}`, picture.body, picture.leaving.signal);
    const { similar } = onlyResult(await response.json());
    return similar.length ? section(similar) : null;
  } catch (refusal) {
    if (["no_index", "unknown_path"].includes(refusal.code)) service.finds = false;
    else known.delete(picture); // it may be asked again
    if (!(refusal instanceof Refusal) || !service.finds) return null;
    return make("p", { class: "soft" }, `What looks like it is not known now: ${refusal.detail}`);
  }
}

function section(similar) {
  return make("div", {},
    make("h3", {}, "Looks like"),
    make("ul", { class: "strip" }, ...similar.map((one) => make("li", {}, entry(one)))));
}

function entry({ name, class: label, score, thumbnail }) {
  const image = make("img", { alt: "", decoding: "async" });
  if (thumbnail) load(image, thumbnail);
  return make("figure", { title: name }, image,
    make("figcaption", {},
      make("span", { class: "label" }, label ?? name),
      make("span", { class: "more" }, `alike: ${score.toFixed(2)}`)));
}

/** By a request with the key, which an image's own request would not carry. */
async function load(image, thumbnail) {
  try {
    const response = await ask(thumbnail.replace(/^\//, ""));
    image.src = URL.createObjectURL(await response.blob());
    image.onload = () => URL.revokeObjectURL(image.src);
  } catch {
    image.classList.add("missing"); // its class and score stand all the same
  }
}
