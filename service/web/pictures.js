// Pictures that were given: sent a few at a time, again after a wait, and what came back of each.

import { askAbout, onlyResult, Refusal, stagesOf } from "./api.js";
import { copyOf, previewOf } from "./preview.js";
import { classesAsked, service } from "./service.js";
import { bytes, pixels, sides } from "./words.js";

const AT_ONCE = 4; // requests
const ALONE_SECONDS = 60; // a wait of at most so long ends by itself, so often:
const ALONE_TIMES = 3;
const LOOKED_AT = 4e6; // bytes; larger files are measured before they are sent

/** One picture. state: waiting, sent, answered or refused. body: what is sent of it, the file or ``copied``. */
export class Picture {
  constructor(file, name = file.name || "pasted picture") {
    Object.assign(this, { file, name, body: file, state: "waiting", tries: 0, size: null });
    this.leaving = new AbortController();
    this.looked = previewOf(file).then((found) => Object.assign(this, found));
  }

  /** Whether the browser can read it, so that a smaller copy, in another format, can be made of it. */
  get canCopy() {
    return this.size !== null && !this.copied;
  }

  /** Throws Refusal where the service would not take it. */
  async check() {
    const limits = service.info.limits;
    if (this.body.size > limits.max_body_bytes) {
      const much = `The file has ${bytes(this.body.size)}, the service takes ${bytes(limits.max_body_bytes)}. It was not sent.`;
      throw new Refusal(413, "body_too_large", "Too large to send", much);
    }
    await this.body.slice(0, 1).arrayBuffer().catch(() => {
      throw new Refusal(0, "unreadable", "It cannot be read", "Is it a folder, or was the file moved?");
    });
    if (this.body.size > LOOKED_AT && !this.copied) await this.looked;
    const { width, height } = this.copied ?? this.size ?? { width: 0, height: 0 };
    if (width * height > limits.max_pixels || Math.max(width, height) > limits.max_side_pixels) {
      const much = `It has ${sides({ width, height })} pixels, the service takes ${pixels(limits.max_pixels)}. It was not sent.`;
      throw new Refusal(413, "image_too_large", "Too large to send", much);
    }
  }

  /** Ask what it is. Throws Refusal. */
  async ask() {
    await this.check();
    const began = performance.now();
    const response = await askAbout(`v1/top-k?k=${classesAsked()}`, this.body, this.leaving.signal);
    this.answer = await response.json();
    this.took = performance.now() - began;
    this.stages = stagesOf(response);
    this.result = onlyResult(this.answer);
  }

  async copy() {
    this.copied = await copyOf(this.file);
    this.body = this.copied.blob;
  }

  leave() {
    this.leaving.abort();
    clearTimeout(this.timer);
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

/** Sends pictures. changed: told of each that has a new state. stopped: told of a refusal that a key may cure. */
export class Pictures {
  constructor(changed, stopped) {
    Object.assign(this, { all: [], sending: 0, paused: true, changed, stopped });
  }

  add(picture) {
    this.all.push(picture);
    picture.looked.then(() => this.changed(picture));
    this.go();
  }

  remove(picture) {
    this.all = this.all.filter((other) => other !== picture);
    picture.leave();
  }

  /** Begin, once limits and key are known. */
  resume() {
    this.paused = false;
    this.go();
  }

  again(picture) {
    clearTimeout(picture.timer);
    Object.assign(picture, { state: "waiting", refusal: null });
    this.changed(picture);
    this.go();
  }

  /** Send again what got no answer. */
  reconnect() {
    for (const picture of this.all) if (picture.refusal?.code === "no_answer") this.again(picture);
  }

  go() {
    for (const picture of this.all) {
      if (this.paused || this.sending >= AT_ONCE) return;
      if (picture.state === "waiting") this.send(picture);
    }
  }

  async send(picture) {
    this.sending += 1;
    this.set(picture, "sent");
    try {
      await picture.ask();
      this.set(picture, "answered");
    } catch (error) {
      if (error.status === 401) this.stop(picture, error);
      else if (error instanceof Refusal) this.refuse(picture, error);
      else if (error.name !== "AbortError") throw error; // a removed picture is waited for by nobody
    } finally {
      this.sending -= 1;
      this.go();
    }
  }

  set(picture, state) {
    picture.state = state;
    if (this.all.includes(picture)) this.changed(picture);
  }

  stop(picture, refusal) {
    this.paused = true;
    this.set(picture, "waiting");
    this.stopped(refusal);
  }

  refuse(picture, refusal) {
    picture.refusal = refusal;
    picture.tries += 1;
    refusal.alone = refusal.wait !== null && refusal.wait <= ALONE_SECONDS && picture.tries <= ALONE_TIMES;
    refusal.until = refusal.wait === null ? 0 : Date.now() + 1000 * refusal.wait;
    if (refusal.alone) picture.timer = setTimeout(() => this.again(picture), 1000 * refusal.wait);
    this.set(picture, "refused");
  }
}
