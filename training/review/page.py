"""Cases as one HTML file with pictures, which asks nothing of the network and holds no script."""

from functools import partial
from itertools import groupby
from pathlib import Path

from models.errors import ImageError
from training import html
from training.data.sources.source import Item, read_image
from training.inspection.page import picture
from training.review.collect import Case

MOST = 200  # shown of each reason


def write(path: Path, title: str, out: Path, placed: list[tuple[Case, Path]]) -> None:
    """Write the page of the images that lie in ``out``; raises OSError."""
    groups: list[dict[str, object]] = []
    for reason, members in groupby(placed, key=lambda entry: entry[0].reason):
        found = list(members)
        shown = [_figure(out, case, place) for case, place in found[:MOST]]
        groups.append({"reason": reason, "figures": shown, "images": len(found), "more": max(0, len(found) - MOST)})
    text = html.render("review", title=title, groups=groups, images=len(placed))
    path.write_text(text, encoding="utf-8")


def _figure(out: Path, case: Case, place: Path) -> dict[str, object]:
    item = Item(str(place), place.as_posix(), case.answer.label, partial(read_image, out / place))
    try:
        shown = picture(item)
    except (ImageError, OSError):  # the list names it all the same
        shown = ""
    answer = case.answer
    return {
        "picture": shown,
        "predicted": answer.label,
        "probability": f"{100 * answer.probability:.0f}\N{NO-BREAK SPACE}%",
        "given": case.label or answer.given or "",
        "version": answer.version,
        "place": place.as_posix(),
    }
