// Requests to the service that the page comes from, with the key, which is kept here and nowhere else.

let key = "";

/** A request that was not answered with what was asked for. wait: seconds after which it may be sent again, or null. */
export class Refusal extends Error {
  constructor(status, code, title, detail, wait = null) {
    super(detail);
    Object.assign(this, { status, code, title, detail, wait });
  }
}

export const hasKey = () => key !== "";
export const useKey = (text) => { key = text; };

/** The full address of a path of the API, also behind a proxy that puts the service below a folder. */
export const address = (path) => new URL(path, document.baseURI).href;

/** The response to a request. type: of the body. Throws Refusal; AbortError where ``signal`` says so. */
export async function ask(path, { method = "GET", body, type, signal } = {}) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (type) headers["content-type"] = type;
  let response;
  try {
    response = await fetch(address(path), { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const why = navigator.onLine ? "It may be starting again, or the network is slow." : "This device is offline.";
    throw new Refusal(0, "no_answer", "The service does not answer", why);
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** Ask about an image. */
export const askAbout = (path, image, signal) =>
  ask(path, { method: "POST", body: image, type: "application/octet-stream", signal });

/** Of several results the one there is; an image that failed is an error in its place. */
export function onlyResult(answer) {
  const [result] = answer.results;
  if (result.error) throw new Refusal(result.error.status, result.error.code, result.error.title, result.error.detail);
  return result;
}

async function refusalOf(response) {
  const { status } = response;
  const after = Number.parseInt(response.headers.get("retry-after"), 10);
  const wait = Number.isNaN(after) ? (status === 429 || status === 503 ? 1 : null) : after;
  try {
    const { code, title, detail } = await response.json();
    return new Refusal(status, code ?? "", title ?? `Refused (${status})`, detail ?? "", wait);
  } catch { // what a proxy says is no problem details
    return new Refusal(status, "", `Refused (${status})`, "Something between this page and the service refused the request.", wait);
  }
}

/** Milliseconds by stage, as the header Server-Timing has them, in its order. */
export function stagesOf(response) {
  const given = response.headers.get("server-timing") ?? "";
  return [...given.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => ({ stage, ms: Number(ms) }));
}
