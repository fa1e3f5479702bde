// What in a picture speaks for a class: POST /v1/explain, asked once for each class of a picture.

import { askAbout, onlyResult } from "./api.js";
import { service } from "./service.js";

const known = new WeakMap(); // by picture: by class the explanation

const NEVER = ["not_explainable", "unknown_path"]; // codes: no class of any picture is explained

/** {label, probability, map, seen, size}. Throws Refusal; where no other would be answered, ``service.explains`` is false then. */
export async function explain(picture, label) {
  const found = known.get(picture) ?? new Map();
  known.set(picture, found);
  if (!found.has(label)) {
    const path = `v1/explain?${new URLSearchParams({ class: label })}`;
    try {
      found.set(label, onlyResult(await (await askAbout(path, picture.body, picture.leaving.signal)).json()));
    } catch (refusal) {
      if (NEVER.includes(refusal.code)) service.explains = false;
      throw refusal;
    }
  }
  return found.get(label);
}
