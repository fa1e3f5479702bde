// All pictures as a grid, where there are several: each with what it is, or what became of it.

import { byId, make } from "./dom.js";
import { percent, some } from "./words.js";

/** What a picture is, in a few words: {label, more, kind}; kind: "" where it is answered and sure. */
export function summary({ state, result, refusal }) {
  if (state === "refused") return { label: refusal.title, more: refusal.alone ? "trying again" : "", kind: "refused" };
  if (state !== "answered") return { label: "Looking …", more: "", kind: "waiting" };
  const { label, probability } = result.top[0];
  const sure = percent(probability);
  return { label, more: result.unsure ? `${sure}, unsure` : sure, kind: result.unsure ? "unsure" : "" };
}

/** Show a tile for each picture, the chosen one marked. choose: told of the one that is clicked. */
export function showTiles(pictures, chosen, choose) {
  byId("overview").hidden = pictures.length < 2;
  byId("overview-title").textContent = some(pictures.length, "picture");
  const tiles = byId("tiles");
  while (tiles.children.length > pictures.length) tiles.lastChild.remove();
  pictures.forEach((picture, i) => {
    const tile = tiles.children[i]?.firstChild ?? newTile(tiles);
    fill(tile, picture, picture === chosen);
    tile.onclick = () => choose(picture);
  });
}

function newTile(tiles) {
  const parts = ["thumb", "label", "more"].map((name) => make("span", { class: name }));
  const tile = make("button", { type: "button", class: "tile" }, ...parts);
  tiles.append(make("li", {}, tile));
  return tile;
}

function fill(tile, { name, url, ...picture }, isChosen) {
  const { label, more, kind } = summary(picture);
  const [thumb, ...texts] = tile.children;
  tile.dataset.kind = kind;
  tile.title = name;
  tile.ariaLabel = `${name}: ${[label, more].filter(Boolean).join(", ")}`;
  tile.ariaCurrent = isChosen ? "true" : null;
  [label, more].forEach((text, i) => { texts[i].textContent = text; });
  if (thumb.dataset.url === String(url)) return; // so that it does not flicker
  thumb.dataset.url = url;
  thumb.replaceChildren(...(url ? [make("img", { src: url, alt: "" })] : []));
}
