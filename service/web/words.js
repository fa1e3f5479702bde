// Numbers and verdicts in plain words.

const SPACE = "\u202f"; // narrow, and a line does not break there
const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (n) => number.format(n);

/** 1 picture, 2 pictures. */
export const some = (n, what) => `${count(n)} ${n === 1 ? what : what.replace(/(s|x|ch)$/, "$1e")}${n === 1 ? "" : "s"}`;

/** A probability in per cent: with a decimal where it is below ten or near a hundred, and never a false 0 or 100. */
export function percent(share) {
  const value = 100 * share;
  if (value < 0.1) return `<${SPACE}0.1${SPACE}%`;
  if (value > 99.9) return `>${SPACE}99.9${SPACE}%`;
  return `${value < 9.95 || value > 99 ? value.toFixed(1) : Math.round(value)}${SPACE}%`;
}

/** An accuracy in per cent. */
export const accuracy = (share) => `${(100 * share).toFixed(1)}${SPACE}%`;

export function bytes(n) {
  const [size, unit] = n < 1e3 ? [n, "bytes"] : n < 1e6 ? [n / 1e3, "kB"] : [n / 1e6, "MB"];
  return `${short.format(size)}${SPACE}${unit}`;
}

export const pixels = (n) => `${short.format(n / 1e6)} million pixels`;
export const sides = ({ width, height }) => `${count(width)}${SPACE}×${SPACE}${count(height)}`;
export const milliseconds = (ms) => `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)}${SPACE}ms`;

/** With a capital and a full stop. */
export const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** A wait as a person says it: 7 s, 3 min, 2 h. */
export function wait(seconds) {
  if (seconds < 100) return `${seconds}${SPACE}s`;
  return seconds < 6000 ? `${Math.ceil(seconds / 60)}${SPACE}min` : `${Math.ceil(seconds / 3600)}${SPACE}h`;
}

/** Why an answer is unsure, as a heading and a sentence; null where it is sure. */
export function doubt(result, model) {
  if (!result.unsure) return null;
  const limit = model?.novelty_threshold;
  if (limit != null && result.novelty > limit) {
    return {
      heading: "Perhaps none of its classes",
      text: `The picture is more unlike those that the model learned from than ${percent(result.novelty)} of known ones are.`,
    };
  }
  return { heading: "Not sure", text: "The likeliest class is only a guess: look at the others too." };
}
