"""training/report/page.py: one file that needs nothing else, holds what was gathered, and cannot be written into by a label."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from training.report import page

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "use", "path"}
HOSTILE = "<script>alert('1')</script>\"&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements and text of a page; ``errors`` are tags that do not close what is open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.errors: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in EMPTY:
            return
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def html(content: dict[str, Any], drawn_before: None) -> str:
    return page.render(content)


def test_the_page_is_whole(html: str) -> None:
    found = Page(html)

    assert (found.open, found.errors) == ([], [])
    headings = [a["id"] for a in found.all("h2")]
    assert headings == ["training", "classes", "calibration", "mistakes", "robustness", "sees", "speed", "limits", "origin"]
    assert {a["href"] for a in found.all("a")} == {f"#{name}" for name in headings}
    assert "None" not in found.text
    assert "nan" not in found.text.split()


def test_nothing_is_fetched_and_nothing_is_run(html: str) -> None:
    found = Page(html)

    assert not found.all("script") + found.all("link") + found.all("iframe") + found.all("object")
    assert all((a["src"] or "").startswith("data:image/") for a in found.all("img"))
    assert not re.findall(r"url\((?!#)|@import", html)
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for a in found.all("meta") if a.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_it_says_what_was_measured(html: str, content: dict[str, Any]) -> None:
    text = " ".join(Page(html).text.split())  # no-break spaces too

    assert f"right for {100 * content['headline']['commonest_class']:.1f} %" in text
    assert content["run"]["command"] in text
    assert content["run"]["data"]["training_sha256"] in text
    assert content["made"]["hardware"] in text
    assert "3 of 18 answers were wrong" in text
    assert f"temperature {content['evaluation']['temperature']}" in text
    for image in content["mistakes"]["images"]:
        assert image["file"] in text


def with_labels(content: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """The same with other classes, all of them confused once with the next one."""
    n = len(labels)
    matrix = [[3 * (a == c) + (a == (c + 1) % n) for a in range(n)] for c in range(n)]
    rows = [{"label": name, "precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4} for name in labels]
    pairs = [{"label": a, "answer": b, "count": 1, "share": 0.25} for a, b in zip(labels, [*labels[1:], labels[0]], strict=True)]
    return content | {
        "run": content["run"] | {"classes": labels},
        "evaluation": content["evaluation"] | {"classes": rows, "confusion": matrix},
        "confused": pairs,
    }


@pytest.mark.usefixtures("drawn_before")
@pytest.mark.parametrize(("classes", "has_matrix"), [(2, True), (30, True), (31, False), (150, False)])
def test_confusions_are_a_matrix_of_few_classes_and_pairs_of_many(
    classes: int, has_matrix: bool, content: dict[str, Any]
) -> None:
    names = [f"class number {i}" for i in range(classes)]

    found = Page(page.render(with_labels(content, names)))

    assert (found.open, found.errors) == ([], [])
    assert ("What is taken for what" in found.text) == has_matrix
    cells = [a for a in found.all("td") if "background" in (a.get("style") or "")]
    assert len(cells) == (2 * classes if has_matrix else 0)  # those that are not empty
    assert (f"class number {classes - 1}" in found.text) is True


@pytest.mark.usefixtures("drawn_before")
def test_what_the_data_say_is_text_and_never_markup(content: dict[str, Any]) -> None:
    changed = with_labels(content, [HOSTILE, "b", "c"])
    changed["run"] = changed["run"] | {"command": HOSTILE, "data": changed["run"]["data"] | {"folder": HOSTILE}}
    changed["skipped"] = {"count": 1, "files": [f"{HOSTILE}: damaged"]}
    image = content["mistakes"]["images"][0] | {"file": HOSTILE, "label": HOSTILE, "answer": HOSTILE}
    changed["mistakes"] = {"count": 1, "images": [image]}
    changed["feature_maps"] = {"images": [image | {"stages": []}]}
    changed["class_activation"] = {"right": [], "wrong": [image | {"maps": [{"label": HOSTILE, "picture": ""}]}]}

    html = page.render(changed)

    found = Page(html)
    assert (found.open, found.errors) == ([], [])
    assert not found.all("script")
    assert "<script" not in html
    assert found.text.count(HOSTILE) >= 10


@pytest.mark.usefixtures("drawn_before")
def test_a_name_that_is_no_text_can_be_written(content: dict[str, Any]) -> None:
    odd = "caf\udce9.jpg"  # how Python reads a file name in another encoding
    html = page.render(content | {"skipped": {"count": 1, "files": [odd]}})

    assert "caf&#56553;.jpg" in html.encode("utf-8", "xmlcharrefreplace").decode()


@pytest.mark.usefixtures("drawn_before")
def test_what_was_left_out_is_said(content: dict[str, Any]) -> None:
    names = ("mistakes", "filters", "feature_maps", "patches", "class_activation", "exported")
    html = page.render(content | {name: {"left_out": f"no {name} today"} for name in names} | {"history": []})

    found = Page(html)
    assert (found.open, found.errors) == ([], [])
    assert all(f"Left out: no {name} today." in found.text for name in names)
    assert "was not trained yet" in found.text


def test_a_learning_rate_is_drawn_where_it_was_noted(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("training_curve", "reliability", "coverage", "robustness"):
        monkeypatch.setattr(page.figures, name, lambda *_: "<svg/>")
    without = [{key: value for key, value in epoch.items() if key != "learning_rate"} for epoch in content["history"]]
    noted = [epoch | {"learning_rate": 0.1} for epoch in without]

    curves = [page.drawn(content | {"history": history})["curves"] for history in (without, noted)]

    assert [len(drawings) for drawings in curves] == [2, 3]
    assert "learning rate" in curves[1][2]


def test_many_classes_stand_worst_first_and_few_in_their_order() -> None:
    rows = [{"label": str(i), "f1": None if i == 3 else 1 - i / 20} for i in range(14)]

    assert [row["label"] for row in page.class_rows(rows)] == [str(i) for i in range(13, -1, -1) if i != 3] + ["3"]
    assert page.class_rows(rows[:12]) == rows[:12]
