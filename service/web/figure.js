// The picture, large, with the part that the network sees and the map of what speaks for a class over it.

import { make } from "./dom.js";
import { bytes, sides } from "./words.js";

const HOT = [255, 98, 20]; // of what speaks for the class most
const VEIL = [12, 10, 24]; // over the rest
const TINY = 128; // pixels of a width below which a picture is shown with its pixels
const SCALE = 24; // pixels that a cell of the map is drawn with

/** explanation: {label, map, seen, size} of the service, or null. remove: called where the picture is to go. */
export function figureOf(picture, explanation, remove) {
  const { size, url, copied } = picture;
  const facts = [size && sides(size), bytes(picture.file.size), copied && `sent as a JPEG of ${sides(copied)}, ${bytes(copied.blob.size)}`];
  const frame = make("div", { class: "frame" }, url
    ? make("img", { src: url, alt: `The picture ${picture.name}`, decoding: "sync" })
    : make("p", { class: "blank" }, picture.state === "refused" ? "This browser cannot show the file." : ""));
  if (size) frame.style.setProperty("--ratio", size.width / size.height);
  frame.classList.toggle("tiny", size !== null && size.width < TINY);
  if (url && explanation) frame.append(...layers(explanation));
  return make("figure", {}, frame,
    make("figcaption", {},
      make("span", { class: "name" }, picture.name),
      make("span", {}, facts.filter(Boolean).join(", ")),
      make("button", { class: "quiet", type: "button", onclick: remove }, "Remove")));
}

/** The map, at the place that the network sees, and a frame around that. */
function layers({ label, map, seen, size }) {
  const canvas = make("canvas", { class: "map", role: "img", "aria-label": `Map of what speaks for ${label}` });
  paint(canvas, map);
  const edge = make("div", { class: "seen", "aria-hidden": "true" });
  for (const layer of [canvas, edge]) place(layer, seen, size);
  return [canvas, edge];
}

function place(layer, seen, size) {
  const share = (length, of) => `${(100 * length) / of}%`;
  layer.style.left = share(seen.x, size.width);
  layer.style.top = share(seen.y, size.height);
  layer.style.width = share(seen.width, size.width);
  layer.style.height = share(seen.height, size.height);
}

/** Each cell's colour goes over from that of its neighbours. */
function paint(canvas, { width, height, values }) {
  const cells = new ImageData(width, height);
  values.flat().forEach((value, i) => cells.data.set(colour(Math.min(1, Math.max(0, value))), 4 * i));
  const small = make("canvas", { width, height });
  small.getContext("2d").putImageData(cells, 0, 0);
  Object.assign(canvas, { width: SCALE * width, height: SCALE * height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** From a dark veil over nothing to a glow, by way of the picture as it is. */
function colour(value) {
  const [rgb, alpha] = value < 0.5 ? [VEIL, 0.62 * (1 - 2 * value)] : [HOT, 0.62 * (2 * value - 1)];
  return [...rgb, Math.round(255 * alpha)];
}
