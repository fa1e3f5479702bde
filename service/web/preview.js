// What the browser itself makes of a picture: its size, a small copy to show, and one to send where the file may not be.

const SHOWN_SIDE = 1024; // pixels of the longer side
const SMALL = 1_500_000; // pixels; a picture of at most so many is shown as it is
const SENT_SIDE = 2048;

let turn = Promise.resolve(); // one large picture at a time is unpacked, as each takes 4 bytes a pixel

/** Size of the upright picture and the address of what to show; both null where the browser cannot read it. */
export function previewOf(file) {
  turn = turn.then(() => shown(file)).catch(() => ({ size: null, url: null }));
  return turn;
}

async function shown(file) {
  const bitmap = await createImageBitmap(file);
  const size = { width: bitmap.width, height: bitmap.height };
  if (size.width * size.height <= SMALL) {
    bitmap.close();
    return { size, url: URL.createObjectURL(file) };
  }
  return { size, url: URL.createObjectURL((await drawn(bitmap, SHOWN_SIDE, 0.85)).blob) };
}

/** What the service takes in the place of a file: {blob, width, height}. */
export const copyOf = async (file) => drawn(await createImageBitmap(file), SENT_SIDE, 0.92);

/** A bitmap as a JPEG whose longer side has at most so many pixels, on white as in the service: {blob, width, height}. */
function drawn(bitmap, side, quality) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((length) => Math.max(1, Math.round(scale * length)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return new Promise((resolve) => { canvas.toBlob((blob) => resolve({ blob, width, height }), "image/jpeg", quality); });
}
