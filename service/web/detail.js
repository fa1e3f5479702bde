// One picture in full: what it is and how sure that is, why, what looks like it, and how it was asked.

import { alikeOf } from "./alike.js";
import { barOf } from "./bar.js";
import { byId, make, say } from "./dom.js";
import { explain } from "./explain.js";
import { feedbackOf } from "./feedback.js";
import { figureOf } from "./figure.js";
import { refusalOf } from "./refused.js";
import { service } from "./service.js";
import { snippetsOf } from "./snippets.js";
import { timesOf } from "./times.js";
import { doubt, percent } from "./words.js";

const HINT = "Choose a class to see what in the picture speaks for it.";
const USUAL = 0.9; // novelty
const open = new Set(); // titles of the parts that were opened, which stay so for the next picture

/** Shows the chosen picture. acts: {remove, again, copy}, each called with it. */
export class Detail {
  constructor(acts) {
    Object.assign(this, { acts, place: byId("detail"), picture: null, state: "", map: null });
  }

  /** Anew where the picture or its state is another, else its figure alone, so that nothing that was typed is lost. */
  show(picture) {
    const state = picture && `${picture.state} ${picture.state === "refused" && picture.canCopy}`;
    if (picture === this.picture && state === this.state) return this.refreshFigure();
    const hadFocus = this.place.contains(document.activeElement);
    Object.assign(this, { picture, state, map: null });
    clearInterval(this.clock);
    this.place.hidden = picture === null;
    this.place.replaceChildren(...(picture === null ? [] : this.parts(picture)));
    if (hadFocus) this.focus();
    return undefined;
  }

  focus() {
    byId("verdict")?.focus({ preventScroll: true });
  }

  parts(picture) {
    this.figure = this.newFigure();
    const alike = make("div", { class: "alike" });
    const answer = make("div", { class: "answer" }, ...this.answer(picture));
    if (picture.state === "answered") {
      alikeOf(picture).then((section) => section && alike.replaceChildren(section));
    }
    return [this.figure, answer, alike];
  }

  newFigure() {
    return figureOf(this.picture, this.map, () => this.acts.remove(this.picture));
  }

  refreshFigure() {
    if (this.picture === null) return;
    const figure = this.newFigure();
    this.figure.replaceWith(figure);
    this.figure = figure;
  }

  answer(picture) {
    if (picture.state === "refused") return refusalOf(picture, this.acts, (clock) => { this.clock = clock; });
    if (picture.state !== "answered") {
      return [make("h2", { id: "verdict", class: "waiting", tabIndex: -1 }, "Looking …"), make("div", { class: "bones", "aria-hidden": "true" })];
    }
    this.note = make("p", { class: "note soft" });
    return [...verdict(picture), this.bars(picture), this.note, feedbackOf(picture), ...this.more(picture)].filter(Boolean);
  }

  bars({ result }) {
    this.note.textContent = service.explains ? HINT : "";
    const list = make("ol", { class: "bars", "aria-label": "The likeliest classes" });
    list.append(...result.top.map((entry) => make("li", {}, this.bar(entry))));
    return list;
  }

  bar({ label, probability }) {
    const inner = barOf(label, percent(probability), probability);
    if (!service.explains) return make("div", { class: "bar" }, ...inner);
    const button = make("button", { class: "bar", type: "button", "aria-pressed": "false", onclick: () => this.explain(button, label) }, ...inner);
    return button;
  }

  /** Lay the map of a class over the picture, or take it away again. */
  async explain(button, label) {
    const { picture } = this;
    const on = button.ariaPressed === "false";
    for (const other of this.place.querySelectorAll("button.bar")) other.ariaPressed = String(on && other === button);
    try {
      this.map = on ? await explain(picture, label) : null;
      if (picture !== this.picture || (on && button.ariaPressed === "false")) return;
      this.note.textContent = on ? legend(this.map) : HINT;
    } catch (refusal) {
      if (picture !== this.picture) return;
      this.map = null;
      button.ariaPressed = "false";
      this.note.textContent = `${refusal.title}: ${refusal.detail}`;
      if (!service.explains) this.giveUp(refusal);
    }
    say(this.note.textContent);
    this.refreshFigure();
  }

  /** The network explains nothing, so the classes are no buttons any more. */
  giveUp({ code }) {
    this.note.textContent = code === "not_explainable" ? "What speaks for a class cannot be shown for this kind of network." : "";
    for (const button of this.place.querySelectorAll("button.bar")) button.replaceWith(make("div", { class: "bar" }, ...button.children));
  }

  more(picture) {
    return [
      folded("How long it took", ...timesOf(picture)),
      folded("Ask it yourself", ...snippetsOf(picture.copied ? "copy.jpg" : picture.name)),
    ];
  }
}

/** What it is, and how sure. */
function verdict({ result, answer }) {
  const [{ label, probability }] = result.top;
  const unsure = doubt(result, service.model);
  return [
    unsure && make("p", { class: "doubt" }, make("strong", {}, `${unsure.heading}.`), ` ${unsure.text}`),
    make("h2", { id: "verdict", tabIndex: -1, class: unsure ? "unsure" : "" }, label),
    make("p", { class: "sure" }, make("strong", {}, percent(probability)), " sure",
      make("span", { class: "soft" }, unusual(result), answer.version === service.model.version ? "" : `, says version ${answer.version}`)),
  ].filter(Boolean);
}

/** How unlike the picture is to those the model learned from, where it says so. */
function unusual({ novelty, unsure }) {
  return unsure || !(novelty >= USUAL) ? "" : `, but the picture is more unusual than ${percent(novelty)} of known ones`;
}

/** What the map shows, in words. */
function legend({ label, map, seen, size }) {
  if (!map.values.flat().some((value) => value > 0)) return `Nothing in the picture speaks for ${label}.`;
  const part = seen.width < size.width - 1 || seen.height < size.height - 1 ? " It sees only what is inside the frame." : "";
  return `The model sees ${label} where the picture glows, and little of it where it is dark.${part}`;
}

function folded(title, ...content) {
  return make("details", { open: open.has(title), ontoggle: ({ target }) => (target.open ? open.add(title) : open.delete(title)) },
    make("summary", {}, title), ...content);
}
