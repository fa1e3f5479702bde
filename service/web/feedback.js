// What someone says of an answer: that it is right, or what it should have been. POST /v1/feedback.

import { askJson, onlyResult } from "./api.js";
import { byId, make } from "./dom.js";
import { service } from "./service.js";

const LABELS = "labels"; // id of the list that a field of classes offers

/** Offer the model's classes in the field. */
export function offerLabels() {
  byId(LABELS)?.remove();
  document.body.append(make("datalist", { id: LABELS }, ...service.model.labels.map((label) => make("option", { value: label }))));
}

/** Asks whether the answer is right; null where the service gave it no name to say that of. */
export function feedbackOf(picture) {
  if (!picture.result.answer) return null;
  const box = make("div", { class: "feedback" });
  if (picture.said) box.append(picture.said);
  else question(box, picture);
  return box;
}

function question(box, picture) {
  const fault = make("p", { class: "fault", role: "alert" });
  const form = correction(box, picture, fault);
  const wrong = make("button", { type: "button", "aria-expanded": "false", onclick: () => {
    form.hidden = !form.hidden;
    wrong.ariaExpanded = String(!form.hidden);
    if (!form.hidden) form.querySelector("input").focus();
  } }, "No, it is …");
  const right = make("button", { type: "button", onclick: () => send(box, picture, { wrong: false }, "it is right", fault) }, "Yes");
  box.append(make("div", { class: "row" }, make("h3", {}, "Is that right?"), right, wrong), form, fault);
}

function correction(box, picture, fault) {
  const field = make("input", { id: "right-label", list: LABELS, autocomplete: "off", required: true, spellcheck: false });
  const none = make("button", { type: "button", class: "quiet", onclick: () =>
    send(box, picture, { wrong: true }, "it is none of the classes", fault) }, "None of its classes");
  return make("form", { hidden: true, onsubmit: (event) => {
    event.preventDefault();
    const label = classOf(field.value);
    if (label) send(box, picture, { label }, `it is ${label}`, fault);
    else fault.textContent = `The model knows no class “${field.value.trim()}”. Choose one of the list, or “None of its classes”.`;
  } },
  make("label", { for: "right-label" }, "What is it?"),
  make("div", { class: "row" }, field, make("button", { class: "primary" }, "Send"), none));
}

/** The class that was meant, in whatever case it was typed. */
function classOf(text) {
  const meant = text.trim().toLowerCase();
  return service.model.labels.find((label) => label.toLowerCase() === meant);
}

async function send(box, picture, what, words, fault) {
  fault.textContent = "";
  try {
    const body = JSON.stringify({ answer: picture.result.answer, ...what });
    onlyResult(await askJson("v1/feedback", { method: "POST", body, type: "application/json" }));
    picture.said = make("p", { class: "said", tabIndex: -1 }, `Thank you. You said: ${words}.`);
    box.replaceChildren(picture.said);
    picture.said.focus();
  } catch (refusal) {
    fault.textContent = `${refusal.title}: ${refusal.detail}`;
  }
}
