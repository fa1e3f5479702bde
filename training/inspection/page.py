"""An inspection as one HTML file with pictures, which asks nothing of the network and holds no script."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from models.image.preprocess import decode, upright
from training import html
from training.data.sources.source import Item, first_of_each, reason
from training.errors import DataError
from training.inspection.facts import LOOK, Look
from training.inspection.findings import Finding
from training.inspection.summary import LOOKED_FOR, named, summarise

ENDINGS = (".html", ".htm")
SIDE = 112  # of a picture on the page, in pixels
MOST_GROUPS, MOST_IMAGES = 24, 6  # shown of a finding, and of a group
MOST_LINES = 200  # of a finding without pictures
MOST_ROWS = 500  # classes of the table: a page of 20,000 would be slow to open
MOST_CLASSES, SAMPLES = 50, 8  # classes of which samples are shown, and how many


def check_path(path: Path) -> None:
    """Raises DataError where the page cannot be written, before anything is looked at."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"the page would replace {path}: give --html a name that ends in .html")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent} is not a folder; --html takes the name of a file in a folder that exists")


def write(path: Path, title: str, look: Look, findings: Sequence[Finding]) -> None:
    """Write the page; raises DataError where that fails."""
    summary = summarise(title, look, findings)
    text = html.render(
        "inspection",
        summary=summary,
        most=max((n for counts in summary["classes"].values() for n in counts.values()), default=1),
        most_rows=MOST_ROWS,
        splits=list(look.source.parts),
        looked_for=LOOKED_FOR,
        samples=samples(look),
        findings=[shown(look, finding) for finding in findings],
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise DataError(f"{path} cannot be written: {reason(err)}") from err


def samples(look: Look) -> dict[str, list[dict[str, str]]]:
    """Some training images of each class, evenly out of all of them."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(look.items):
        if look.splits[i] == "train":
            members[item.label].append(i)
    names = [name for name in look.source.train.classes if name in members][:MOST_CLASSES]
    return {name: [figure(look, i) for i in members[name][:: -(-len(members[name]) // SAMPLES)]] for name in names}


def shown(look: Look, finding: Finding) -> dict[str, Any]:
    """A finding as the page shows it: its first groups with pictures, and how many more there are."""
    groups = [
        {"figures": [figure(look, i) for i in group[:MOST_IMAGES]], "more": max(0, len(group) - MOST_IMAGES), "note": note}
        for group, note in finding.groups[:MOST_GROUPS]
    ]
    lines = finding.lines if len(finding.lines) <= MOST_LINES else first_of_each(finding.lines)
    return {
        "level": finding.level,
        "title": finding.title,
        "advice": finding.advice,
        "groups": groups,
        "more": max(0, len(finding.groups) - MOST_GROUPS),
        "lines": lines,
    }


def figure(look: Look, i: int) -> dict[str, str]:
    size = max(look.facts[i].width, look.facts[i].height)
    return {"picture": picture(look.items[i]), "rendering": "pixels" if size < SIDE else "smooth", **named(look, i)}


def picture(item: Item) -> str:
    """A data: URI of the image, upright, its longer side at most SIDE pixels."""
    stored = decode(item.read(), spec=LOOK)
    image = upright(stored.image, stored.orientation)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    file = BytesIO()
    image.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
