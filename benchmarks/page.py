"""python -m benchmarks.page [--rounds N]: milliseconds from the drop of a picture on the page to its answer on the screen.

The real service with imagenet, and Chromium, on this machine. Each round is one picture on an empty page.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from service.http.page import WEB
from tests.page.browsing import launched, new_page, visiting
from tests.server import launch

KEEP = "bytes => { window.picture = new File([new Uint8Array(bytes)], 'picture.jpg'); }"
DROP = """() => new Promise((resolve) => {
  document.getElementById("clear").click();
  const transfer = new DataTransfer();
  transfer.items.add(window.picture);
  const watch = new MutationObserver(() => {
    if (!document.querySelector(".answer > .bars")) return;
    watch.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
  });
  watch.observe(document.getElementById("detail"), {childList: true, subtree: true});
  const began = performance.now();
  window.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}));
})"""


def photograph() -> bytes:
    """As large as a camera's, 12 megapixels, but smoother."""
    pixels = np.asarray(Image.open(WEB / "ball.jpg").resize((4000, 3000)), np.int16)
    pixels = pixels + np.random.default_rng(0).normal(0, 2, pixels.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    pictures = {"480x360": (WEB / "ball.jpg").read_bytes(), "4000x3000": photograph()}
    with tempfile.TemporaryDirectory() as store:
        server = launch(Path(store), Path(store) / "log.txt", HUBEL_MODEL="imagenet")
        try:
            server.wait_until_ready()
            with launched() as browser:
                visit = visiting(new_page(browser), server.url)
                visit.get(".sample").first.wait_for()
                for name, picture in pictures.items():
                    visit.page.evaluate(KEEP, list(picture))
                    times = [visit.page.evaluate(DROP) for _ in range(rounds + 1)][1:]
                    kb = len(picture) / 1000
                    sys.stdout.write(
                        f"{name}, {kb:.0f} kB: median {median(times):.0f} ms, most {max(times):.0f} ms, n = {rounds}\n"
                    )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
