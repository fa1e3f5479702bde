"""What of a page's markup a screen reader goes by."""

from html.parser import HTMLParser

HEADINGS = ("h1", "h2", "h3", "h4")


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.level = 0
        self.captioned = True
        self.labels: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.faults += [f"nothing has the id {name}" for name in self.labels if name not in self.ids]
        self.faults += [f"two have the id {name}" for name in self.labels if self.ids.count(name) > 1]
        self.faults += [] if self.captioned else ["a table without caption"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.labels += (found.get("aria-labelledby") or "").split() + [(found.get("href") or "")[1:]] * (tag == "a")
        if tag in HEADINGS:
            self.faults += [f"{tag} after h{self.level}"] if int(tag[1]) > self.level + 1 else []
            self.level = int(tag[1])
        if tag == "table":
            self.faults += [] if self.captioned else ["a table without caption"]
            self.captioned = False
        self.captioned |= tag == "caption"
        if tag == "th" and found.get("scope") not in ("row", "col"):
            self.faults.append("th without scope")
        if tag == "img" and not found.get("alt"):
            self.faults.append("a picture without words")
        if tag == "svg" and not found.get("aria-label") and not found.get("aria-hidden"):
            self.faults.append("a drawing without words")


def unreadable(text: str) -> list[str]:
    """What is wrong with a page: headings that leave a level out, tables without caption, heads that do not say what of,
    pictures without words, references to nothing."""
    return _Reader(text).faults
