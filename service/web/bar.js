// A name, what it has in words, and a bar of a share of the whole width.

import { make } from "./dom.js";

export function barOf(label, words, share) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return [make("span", { class: "label" }, label), make("span", { class: "share" }, words), make("span", { class: "track" }, fill)];
}
