"""python -m tests.page.screenshots [FOLDER]: pictures for the documents: of the page of the real service with imagenet, and of
the report of a small network.

Only drawings are shown, which are ours. What the service offers is what is seen: maps and alike pictures where it has them.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from models.package.manifest import REPORT
from models.package.report import named
from service.http.page import WEB
from tests.page import shapes
from tests.page.browsing import Visit, launched, new_page, visiting
from tests.server import ROOT, launch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DRAWINGS = tuple(WEB / f"{name}.jpg" for name in ("ball", "balloon", "clock", "traffic-light", "ship"))
WIDE, NARROW = (1280, 860), (390, 844)
QUALITY = 88  # of WebP
MOST_BYTES = 150_000


def noise() -> dict[str, Any]:
    """What no model has a class for."""
    pixels = np.random.default_rng(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((480, 360), Image.Resampling.NEAREST).save(buffer, "PNG")
    return {"name": "noise.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def save(visit: Visit, path: Path, scale: float = 1.0) -> None:
    visit.page.wait_for_timeout(700)  # until what moves stands
    image = Image.open(io.BytesIO(visit.page.screenshot()))
    image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.LANCZOS)
    image.save(path, "WEBP", quality=QUALITY, method=6)
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size} bytes"


def answered(visit: Visit, *pictures: Path | dict[str, Any]) -> None:
    visit.get(".sample").first.wait_for()
    visit.give(*pictures)
    visit.verdict()
    visit.page.wait_for_load_state("networkidle")
    if visit.get("button.bar").count():
        visit.get("button.bar").first.click()
        visit.get(".map").wait_for()
    visit.page.evaluate("scrollTo(0, 0); document.activeElement.blur()")


def take(browser: "Browser", url: str, folder: Path) -> None:
    first = visiting(new_page(browser, device_scale_factor=2), url, None, *WIDE)
    answered(first, DRAWINGS[0])
    save(first, folder / "page.webp", 0.75)
    first.close()
    several = visiting(new_page(browser, device_scale_factor=2, color_scheme="dark"), url, None, *WIDE)
    answered(several, *DRAWINGS, noise())
    save(several, folder / "page-dark.webp", 0.75)
    several.close()
    narrow = visiting(new_page(browser, device_scale_factor=2), url, None, *NARROW)
    answered(narrow, DRAWINGS[1])
    save(narrow, folder / "page-narrow.webp")
    narrow.close()
    dark = visiting(new_page(browser, device_scale_factor=2, color_scheme="dark"), url, None, *NARROW)
    dark.get(".sample").first.wait_for()
    save(dark, folder / "page-narrow-dark.webp")
    dark.close()


def take_report(browser: "Browser", report: Path, folder: Path) -> None:
    """Its beginning in light, and its confusions in the dark."""
    for name, scheme, section in (("report", "light", None), ("report-dark", "dark", "confusions")):
        page = new_page(browser, device_scale_factor=2, color_scheme=scheme, viewport={"width": WIDE[0], "height": WIDE[1]})
        page.goto(report.as_uri())
        if section is not None:
            page.evaluate(f"document.getElementById('{section}').scrollIntoView()")
        save(Visit(page, report.as_uri()), folder / f"{name}.webp", 0.65)
        page.context.close()


def make_report(folder: Path) -> Path:
    """Of a network whose head is fitted on drawn shapes, in a minute or two."""
    shapes.make(folder / "shapes")
    for command in (
        ["train", folder / "shapes", "--out", folder / "run"],
        ["evaluate", folder / "run", folder / "shapes"],
        ["report", folder / "run", folder / "shapes"],
    ):
        subprocess.run([sys.executable, "-m", "hubel", *map(str, command)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    page = folder / "run" / REPORT
    page.write_bytes(named(page.read_bytes(), "shapes:1"))
    return page


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images"
    with tempfile.TemporaryDirectory() as temporary, launched() as browser:
        take_report(browser, make_report(Path(temporary)), folder)
    with tempfile.TemporaryDirectory() as store:
        server = launch(Path(store), Path(store) / "log.txt", HUBEL_MODEL="imagenet")
        try:
            server.wait_until_ready()
            with launched() as browser:
                take(browser, server.url, folder)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
