// Elements, and what a screen reader is told. Text is never read as HTML.

/** The element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/** A new element. Properties that are strings become attributes; others, such as handlers, properties. */
export function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "string") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Have a screen reader say a sentence when it has said what it is saying. */
export function say(text) {
  byId("live").textContent = text;
}

/** Show a sentence at the top of the page; none: hide it. */
export function notify(text = "") {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}
