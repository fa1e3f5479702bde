// A picture that was not answered: why, and what can be done about it.

import { make } from "./dom.js";
import { sentence, wait } from "./words.js";

const COPIED = ["body_too_large", "image_too_large", "unsupported_format"]; // what a copy cures
const FINAL = [...COPIED, "undecodable_image", "unreadable"]; // what is refused in the same way when it is sent again

/** Elements. acts: {again, copy}, called with the picture. ticks: told of the interval that counts down. */
export function refusalOf(picture, acts, ticks) {
  const { refusal } = picture;
  const parts = [
    make("h2", { id: "verdict", class: "refused", tabIndex: -1 }, refusal.title),
    make("p", { class: "reason" }, sentence(refusal.detail)),
  ];
  const buttons = make("div", { class: "row" });
  if (COPIED.includes(refusal.code) && picture.canCopy) {
    buttons.append(make("button", { class: "primary", type: "button", onclick: () => acts.copy(picture) }, "Send a smaller JPEG of it"));
  }
  if (!FINAL.includes(refusal.code)) buttons.append(againButton(picture, acts, ticks, parts));
  if (buttons.children.length) parts.push(buttons);
  return parts;
}

/** Sends it again; where the service said when, not before, and the time is counted down. */
function againButton(picture, acts, ticks, parts) {
  const { refusal } = picture;
  const button = make("button", { type: "button", onclick: () => acts.again(picture) }, "Try again");
  const left = () => Math.max(0, Math.ceil((refusal.until - Date.now()) / 1000));
  if (left() === 0) return button;
  const text = make("p", { class: "soft", role: "timer" });
  const tick = () => {
    const seconds = left();
    button.disabled = seconds > 0;
    text.textContent = seconds === 0 ? "" : `${refusal.alone ? "Trying again" : "It can be tried again"} in ${wait(seconds)}.`;
    if (seconds === 0) clearInterval(clock);
  };
  const clock = setInterval(tick, 250);
  ticks(clock);
  tick();
  parts.push(text);
  return button;
}
