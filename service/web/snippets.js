// The request that the page just made, for a shell and for Python, to copy.

import { address, hasKey } from "./api.js";
import { make, say } from "./dom.js";
import { classesAsked } from "./service.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`; // for a shell

/** What follows curl; the key stands for one, and is not shown. */
export function curlOf(name) {
  const key = hasKey() ? '-H "authorization: Bearer $KEY" \\\n  ' : "";
  return `curl ${key}--data-binary ${quoted(`@${name}`)} \\\n  ${quoted(address(`v1/top-k?k=${classesAsked()}`))}`;
}

/** With what Python has itself. */
export function pythonOf(name) {
  const key = hasKey() ? '\n    "authorization": "Bearer KEY",' : "";
  return `import json
from urllib.request import Request, urlopen

headers = {
    "content-type": "application/octet-stream",${key}
}
with open(${JSON.stringify(name)}, "rb") as file:
    request = Request(${JSON.stringify(address(`v1/top-k?k=${classesAsked()}`))}, file.read(), headers)
(result,) = json.load(urlopen(request))["results"]
for entry in result["top"]:
    print(entry["label"], entry["probability"])`;
}

/** Both, each with a button that copies it. */
export const snippetsOf = (name) => [snippet("curl", curlOf(name)), snippet("Python", pythonOf(name))];

function snippet(title, text) {
  const code = make("code", {}, text);
  const button = make("button", { class: "quiet", type: "button", "aria-label": `Copy the ${title}`, onclick: () => copy(code, button) }, "Copy");
  return make("div", { class: "snippet" },
    make("div", { class: "row" }, make("h4", {}, title), button),
    make("pre", { tabIndex: 0, "aria-label": title }, code));
}

/** Where a page may not write to the clipboard, as without TLS, the text is selected instead. */
async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } catch {
    getSelection().selectAllChildren(code);
    say("It is selected: copy it with the keyboard");
  }
}
