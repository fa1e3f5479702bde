// The page: pictures come in, are sent, and the chosen one is shown.

import { showAbout } from "./about.js";
import { hasKey, Refusal, useKey } from "./api.js";
import { Detail } from "./detail.js";
import { byId, make, notify, say } from "./dom.js";
import { offerLabels } from "./feedback.js";
import { Picture, Pictures } from "./pictures.js";
import { offerSamples } from "./samples.js";
import { isKnown, learn } from "./service.js";
import { showTiles, summary } from "./tiles.js";
import { sentence, some, wait } from "./words.js";

const KEY = /^[\x21-\x7e]+$/; // what a header can carry
const AGAIN_SECONDS = 5; // after which a service that did not answer is asked again

const pictures = new Pictures(changed, (refusal) => askForKey(refusal));
const detail = new Detail({ remove, again: (picture) => pictures.again(picture), copy });
let chosen = null;

/** Ask the service what it is, and begin; again after a while where it does not answer. */
async function start() {
  clearTimeout(start.timer);
  try {
    await learn();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) askForKey(error);
    else retry(error);
    return;
  }
  notify();
  byId("key").hidden = true;
  byId("ask").hidden = false;
  byId("forget").hidden = !hasKey();
  showAbout();
  offerLabels();
  offerSamples(give);
  pictures.resume();
}

function retry(refusal) {
  const seconds = refusal.wait ?? AGAIN_SECONDS;
  notify(`${refusal.title}. ${sentence(refusal.detail)} Asking again in ${wait(seconds)}.`);
  start.timer = setTimeout(start, 1000 * Math.min(seconds, 3600));
}

function askForKey() {
  const wrong = hasKey();
  forgetKey();
  byId("key-fault").textContent = wrong ? "The service does not know this key." : "";
  notify();
}

function forgetKey() {
  useKey("");
  pictures.paused = true;
  byId("key").hidden = false;
  byId("ask").hidden = true;
  byId("forget").hidden = true;
  byId("key-text").value = "";
  byId("key-text").focus();
}

function takeKey(event) {
  event.preventDefault();
  const given = byId("key-text").value.trim();
  if (!KEY.test(given)) {
    byId("key-fault").textContent = "That is no key: keys have letters and digits only.";
    return;
  }
  byId("key-fault").textContent = "";
  useKey(given);
  start();
}

/** Take files in, and show the first of them. */
function give(files) {
  if (!files.length) return;
  notify();
  for (const file of files) pictures.add(new Picture(file));
  choose(pictures.all.at(-files.length), false);
}

function choose(picture, move = true) {
  chosen = picture;
  show();
  if (!move) return;
  detail.focus();
  const { top } = byId("detail").getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) byId("detail").scrollIntoView(); // on a phone it is below the grid
}

function show() {
  const any = pictures.all.length > 0;
  document.body.classList.toggle("busy", any);
  byId("clear").hidden = !any;
  byId("choose").textContent = any ? "Add pictures" : "Choose pictures";
  showTiles(pictures.all, chosen, choose);
  detail.show(chosen);
}

function changed(picture) {
  show();
  if (picture.state === "answered" && picture.answer && !isKnown(picture.answer)) start(); // another version went live
  if (!picture.told && ["answered", "refused"].includes(picture.state)) tell(picture);
}

/** Of one picture say what it is; of several, when all are there, what each is. */
function tell(picture) {
  picture.told = true;
  const open = pictures.all.filter(({ state }) => ["waiting", "sent"].includes(state));
  if (open.length) return;
  const told = pictures.all.length === 1 ? pictures.all : pictures.all.slice(-10);
  const words = told.map((each) => { const { label, more } = summary(each); return `${each.name}: ${label}${more && `, ${more}`}`; });
  say(pictures.all.length > 1 ? `${some(pictures.all.length, "picture")}. ${words.join(". ")}` : words[0]);
}

function remove(picture) {
  const place = pictures.all.indexOf(picture);
  pictures.remove(picture);
  choose(pictures.all[Math.min(place, pictures.all.length - 1)] ?? null, false);
  if (chosen) detail.focus();
  else byId("choose").focus();
  say(`${picture.name} removed`);
}

async function copy(picture) {
  await picture.copy();
  pictures.again(picture);
}

function clear() {
  for (const picture of [...pictures.all]) pictures.remove(picture);
  choose(null, false);
  byId("choose").focus();
}

function takeFrom(input) {
  give([...input.files]);
  input.value = ""; // so that the same file can be chosen again
}

function listenForDrops() {
  const curtain = byId("curtain");
  const isOpen = () => byId("key").hidden;
  addEventListener("dragover", (event) => {
    event.preventDefault();
    curtain.hidden = !(isOpen() && event.dataTransfer.types.includes("Files"));
  });
  addEventListener("dragleave", (event) => { curtain.hidden ||= event.relatedTarget === null; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    curtain.hidden = true;
    const files = [...event.dataTransfer.files];
    if (files.length && isOpen()) give(files);
    else if (isOpen()) notify("Only files can be dropped here: save the picture first, then drop the file.");
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length && isOpen()) give(files);
  });
}

byId("key").addEventListener("submit", takeKey);
byId("forget").addEventListener("click", forgetKey);
byId("choose").addEventListener("click", () => byId("files").click());
byId("shoot").addEventListener("click", () => byId("camera").click());
byId("clear").addEventListener("click", clear);
for (const name of ["files", "camera"]) byId(name).addEventListener("change", ({ target }) => takeFrom(target));
if (matchMedia("(pointer: coarse)").matches) { // elsewhere it would be one more button to choose files
  byId("shoot").hidden = false;
  byId("invitation").textContent = "Take a picture, or choose some.";
}
addEventListener("online", () => { start(); pictures.reconnect(); });
listenForDrops();
start();
