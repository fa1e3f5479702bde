"""training/report/page.py: one file that needs nothing else, holds what was gathered, and cannot be written into by a label."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.training.markup import unreadable
from tests.training.report.labels import with_labels
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
    return page.render(content | {"next": [{"found": "Found.", "do": "Do.", "flags": []}]})


def test_the_page_is_whole(html: str) -> None:
    found = Page(html)

    assert (found.open, found.errors) == ([], [])
    headings = [a["id"] for a in found.all("h2") if "id" in a]
    assert headings == [
        "next",
        "classes",
        "confusions",
        "mistakes",
        "calibration",
        "unsure",
        "robustness",
        "sees",
        "training",
        "speed",
        "limits",
        "origin",
    ]
    assert {a["href"] for a in found.all("a")} == {f"#{name}" for name in headings}
    assert "None" not in found.text
    assert "nan" not in found.text.split()
    assert unreadable(html) == []


def test_nothing_is_fetched_and_nothing_is_run(html: str) -> None:
    found = Page(html)

    assert not found.all("script") + found.all("link") + found.all("iframe") + found.all("object")
    assert all((a["src"] or "").startswith("data:image/") for a in found.all("img"))
    assert not re.findall(r"url\((?!#)|@import", html)
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for a in found.all("meta") if a.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


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


@pytest.mark.usefixtures("drawn_before")
@pytest.mark.parametrize(("classes", "has_matrix"), [(2, True), (30, True), (31, False), (150, False)])
def test_confusions_are_a_matrix_of_few_classes_and_pairs_of_many(
    classes: int, has_matrix: bool, content: dict[str, Any]
) -> None:
    names = [f"class number {i}" for i in range(classes)]

    found = Page(page.render(with_labels(content, names)))

    assert (found.open, found.errors) == ([], [])
    assert ("Confusion matrix" in found.text) == has_matrix
    cells = [a.get("class") for a in found.all("td") if a.get("class") in ("right", "wrong")]
    assert [cells.count(kind) for kind in ("right", "wrong")] == ([classes, classes] if has_matrix else [0, 0])
    assert ("Confused most" in found.text) != has_matrix
    assert (f"class number {classes - 1}" in found.text) is True


@pytest.mark.usefixtures("drawn_before")
def test_a_page_of_20000_classes_is_small_and_says_that_it_shows_the_worst(content: dict[str, Any]) -> None:
    names = [f"{i:05d} {'n' * 194}" for i in range(20_000)]
    rows = [
        {"label": name, "precision": 0.5, "recall": 0.9 - i / 40_000, "f1": 0.5, "support": 4} for i, name in enumerate(names)
    ]
    cells = {"label": [1], "answer": [0], "count": [3]}
    evaluation = content["evaluation"] | {"classes": rows, "confusion": cells}

    html = page.render(content | {"run": content["run"] | {"classes": names}, "evaluation": evaluation})

    found = Page(html)
    assert "The worst stand first: 500 of 20,000;" in " ".join(found.text.split())
    assert all(name in html for name in names[-500:])
    assert names[-501] not in html
    assert len(html) < 3_000_000


@pytest.mark.usefixtures("drawn_before")
def test_what_the_data_say_is_text_and_never_markup(content: dict[str, Any]) -> None:
    changed = with_labels(content, [HOSTILE, "b", "c"])
    changed["run"] = changed["run"] | {"command": HOSTILE, "data": changed["run"]["data"] | {"folder": HOSTILE}}
    changed["skipped"] = {"count": 1, "files": [f"{HOSTILE}: damaged"]}
    image = content["mistakes"]["images"][0] | {"file": HOSTILE, "label": HOSTILE, "answer": HOSTILE}
    changed["mistakes"] = {"count": 1, "images": [image]}
    changed["confusions"] = {"pairs": [changed["confused"][0] | {"images": [image]}]}
    changed["novel"] = changed["novel"] | {"images": [image | {"novelty": 1.0}]}
    weak = {"label": HOSTILE, "recall": 0.1, "low": 0.0, "high": 0.2, "support": 10}
    changed["judged"] = {name: {"classes": [weak], "all_classes": 1, "disturbed": []} for name in ("good", "bad")}
    changed["feature_maps"] = {"images": [image | {"stages": []}]}
    changed["class_activation"] = {"right": [], "wrong": [image | {"maps": [{"label": HOSTILE, "picture": ""}]}]}

    html = page.render(changed)

    found = Page(html)
    assert (found.open, found.errors) == ([], [])
    assert not found.all("script")
    assert "<script" not in html
    assert found.text.count(HOSTILE) >= 16
    assert any(HOSTILE in (a["alt"] or "") for a in found.all("img"))


@pytest.mark.usefixtures("drawn_before")
def test_a_name_that_is_no_text_can_be_written(content: dict[str, Any]) -> None:
    odd = "caf\udce9.jpg"  # how Python reads a file name in another encoding
    html = page.render(content | {"skipped": {"count": 1, "files": [odd]}})

    assert "caf&#56553;.jpg" in html.encode("utf-8", "xmlcharrefreplace").decode()


@pytest.mark.usefixtures("drawn_before")
def test_what_was_left_out_is_said(content: dict[str, Any]) -> None:
    names = ("confusions", "novel", "mistakes", "filters", "feature_maps", "patches", "class_activation", "exported")
    html = page.render(content | {name: {"left_out": f"no {name} today"} for name in names} | {"history": []})

    found = Page(html)
    assert (found.open, found.errors) == ([], [])
    assert all(f"Left out: no {name} today." in found.text for name in names)
    assert "was not trained yet" in found.text


def test_a_learning_rate_is_drawn_where_it_was_noted(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("training_curve", "reliability", "coverage", "robustness", "novelty"):
        monkeypatch.setattr(page.figures, name, lambda *_: "<svg/>")
    without = [{key: value for key, value in epoch.items() if key != "learning_rate"} for epoch in content["history"]]
    noted = [epoch | {"learning_rate": 0.1} for epoch in without]

    curves = [page.drawn(content | {"history": history})["curves"] for history in (without, noted)]

    assert [len(drawings) for drawings in curves] == [2, 3]
    assert "learning rate" in curves[1][2]


def test_the_worst_classes_stand_first_and_those_without_images_last() -> None:
    rows: list[dict[str, Any]] = [
        {"label": str(i), "recall": None if i == 1 else 1 - i / 20, "support": 0 if i == 1 else 2} for i in range(4)
    ]

    assert [row["label"] for row in page.class_rows(rows)] == ["3", "2", "0", "1"]
    assert [row["label"] for row in page.class_rows([rows[2], rows[2] | {"label": "of more", "support": 9}])] == ["of more", "2"]


NOTHING = {"label": "never", "precision": None, "recall": None, "f1": None, "support": 0}
NOTHING_SURE: dict[str, Any] = {"classes": [], "all_classes": 0, "disturbed": []}
MUCH_SURE = {
    "classes": [{"label": "a", "recall": 0.5, "low": 0.4, "high": 0.6, "support": 90}],
    "all_classes": 7,
    "disturbed": [{"what": "turned by 15 degrees", "accuracy": 0.5}],
}
NEW_FIGURES = {
    "calibration_bins": 4,
    "calibration_floor": 0.1,
    "calibration_floor_high": 0.17,
    "negative_log_likelihood": 0.5,
    "brier": 0.2,
    "temperature_reason": "10 is the highest temperature that is tried",
    "threshold_reason": "all 18 held-out images were answered right",
    "threshold": 0.0,
    "accuracy_kept": None,
    "macro_f1": 0.0,
}


def with_evaluation(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return content | {"evaluation": content["evaluation"] | changes}


UNUSUAL: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a class without images": lambda c: with_evaluation(c, classes=[*c["evaluation"]["classes"][:2], NOTHING]),
    "many classes": lambda c: with_labels(c, [f"class {i}" for i in range(300)]),
    "two classes": lambda c: with_labels(c, ["a", "b"]),
    "odd labels": lambda c: with_labels(c, ["a\u202eb", "`code`", "{{ x }}", "<b>", "caf\udce9", " "]),
    "no mistakes": lambda c: c | {"mistakes": {"count": 0, "images": []}, "confused": []},
    "no right answer": lambda c: c | {"class_activation": c["class_activation"] | {"right": []}},
    "no mistake is shown": lambda c: c | {"confusions": {"pairs": []}, "confused": []},
    "nothing stands out": lambda c: c | {"judged": dict.fromkeys(("good", "bad"), NOTHING_SURE)},
    "much stands out": lambda c: c | {"judged": dict.fromkeys(("good", "bad"), MUCH_SURE)},
    "nothing is novel": lambda c: c | {"novel": c["novel"] | {"count": 0, "right": None, "images": []}},
    "novelty was not learnt": lambda c: c | {"novel": {"left_out": "too few"}},
    "figures of later evaluations": lambda c: with_evaluation(c, **NEW_FIGURES),
    "nothing advised": lambda c: c | {"next": []},
    "a run from elsewhere": lambda c: c | {"run": c["run"] | {"started_from": {}}},
    "not trained": lambda c: c | {"history": [], "kept": None, "run": c["run"] | {"epochs": 0, "kept_epoch": 0}},
    "an average that answers": lambda c: c | {"run": c["run"] | {"recipe": c["run"]["recipe"] | {"ema": 0.9}}},
}


@pytest.mark.usefixtures("drawn_before")
@pytest.mark.parametrize("case", UNUSUAL)
def test_a_page_is_made_of_unusual_runs_too(case: str, content: dict[str, Any]) -> None:
    html = page.render(UNUSUAL[case](content))

    found = Page(html)
    assert (found.open, found.errors) == ([], [])
    assert unreadable(html) == []
    assert "None" not in found.text


def said(content: dict[str, Any]) -> str:
    return " ".join(Page(page.render(content)).text.split())


@pytest.mark.usefixtures("drawn_before")
def test_the_epoch_whose_weights_answer_is_the_one_that_is_spoken_of(content: dict[str, Any]) -> None:
    kept = content["history"][1] | {"accuracy": 0.123, "validation_accuracy": 0.456}

    last = said(content)
    earlier = said(content | {"kept": kept, "run": content["run"] | {"kept_epoch": 2}})

    assert "4 epochs in" in last
    assert "In the last epoch" in last
    assert "4 epochs in" in earlier
    assert "the weights of epoch 2 answer. In that epoch 12.3 % of the training images" in earlier
    assert f"45.6 % of the {content['run']['data']['validation_images']} validation images" in earlier
    assert "4 (the weights of epoch 2 are kept)" in earlier


@pytest.mark.usefixtures("drawn_before")
def test_a_calibration_error_stands_beside_what_chance_gives(content: dict[str, Any]) -> None:
    explained, found = (said(with_evaluation(content, **NEW_FIGURES, calibration_error=e)) for e in (0.16, 0.18))

    assert "calibration error; chance alone gives up to 17.0 points" in explained
    assert "over 4 bins" in explained
    assert "the error found is no sign that they are not true" in explained
    assert "the error found is more than chance explains" in found
    assert "negative log-likelihood 0.500 (guessing gives 1.099), Brier score 0.200" in explained
    assert "No answer is called unsure: all 18 held-out images were answered right." in explained
    assert "10 is the highest temperature that is tried." in explained


@pytest.mark.usefixtures("drawn_before")
def test_scores_of_maps_stand_beside_those_of_baselines_where_they_were_measured(content: dict[str, Any]) -> None:
    names = ("map", "centre", "random", "above_centre", "above_random")
    scores = {name: {"score": i / 8, "error": 0.01} for i, name in enumerate(names)}
    figures = {"images": 7, "removed": [0.3, 0.6], "places": [2, 2], "other_class_likeness": None}
    before = {key: value for key, value in content["evaluation"].items() if key != "explanations"}

    told = said(with_evaluation(content, explanations=figures | scores))
    alike = said(with_evaluation(content, explanations=figures | scores | {"other_class_likeness": 0.25}))

    assert "was measured on 7 images (ROAD): the 30 % and 60 % of the pixels" in told
    html = page.render(with_evaluation(content, explanations=figures | scores))
    assert "distance from the centre</th><td>0.125 ± 0.010</td><td>0.375 ± 0.010</td>" in html
    assert "random numbers</th><td>0.250 ± 0.010</td><td>0.500 ± 0.010</td>" in html
    assert "correlate by" not in told
    assert "two likeliest classes correlate by 0.25" in alike
    assert "(ROAD)" not in said(content | {"evaluation": before})


@pytest.mark.usefixtures("drawn_before")
@pytest.mark.parametrize(("classes", "shown"), [(2, False), (5, False), (6, True)])
def test_top_5_is_shown_where_it_says_something(classes: int, shown: bool, content: dict[str, Any]) -> None:
    assert ("among the first five" in said(with_labels(content, [str(i) for i in range(classes)]))) == shown


@pytest.mark.usefixtures("drawn_before")
def test_advice_stands_at_the_top_with_its_flags(content: dict[str, Any]) -> None:
    html = page.render(content | {"next": [{"found": f"{HOSTILE} found.", "do": "Do it.", "flags": ["--scale 0.35"]}]})

    assert html.index('id="next"') < html.index('id="classes"')
    assert "<code>--scale 0.35</code>" in html
    assert "<script" not in html
    assert 'id="next"' not in page.render(content | {"next": []})


@pytest.mark.usefixtures("drawn_before")
def test_the_wall_of_pictures_is_folded(content: dict[str, Any]) -> None:
    image = content["mistakes"]["images"][0]
    many = content | {"mistakes": {"count": 60, "images": [image | {"file": f"{i}.png"} for i in range(50)]}}

    html = page.render(many)

    before, _, folded = html[html.index('id="mistakes"') :].partition("<details>")
    assert (before.count("<img"), folded.partition("</details>")[0].count("<img")) == (12, 38)
    assert html.count("<details>") == html.count("<summary>") == 4


@pytest.mark.usefixtures("drawn_before")
@pytest.mark.parametrize(
    ("right", "n", "words", "drawn"),  # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3 (Wilson's)
    [
        (81, 263, "26 to 37 %", "--low: 25.53%; --high: 36.62%; --at: 30.80%"),
        (15, 148, "6 to 16 %", "--low: 6.24%; --high: 16.05%; --at: 10.14%"),
        (0, 20, "0 to 16 %", "--low: 0.00%; --high: 16.11%; --at: 0.00%"),
        (1, 29, "1 to 17 %", "--low: 0.61%; --high: 17.18%; --at: 3.45%"),
    ],
)
def test_the_recall_of_a_class_is_told_and_drawn_with_its_interval(
    right: int, n: int, words: str, drawn: str, content: dict[str, Any]
) -> None:
    row = {"label": "some", "precision": 0.5, "recall": right / n, "f1": 0.5, "support": n}
    headline = content["headline"] | {"top1": 0.2}

    html = page.render(with_evaluation(content, classes=[row, NOTHING]) | {"headline": headline})

    assert words in html.replace("\u00a0", " ")
    assert f'style="{drawn}; --mark: 20.00%"' in html
    assert ('class="range below"' in html) == (right != 81)
    assert html.count('class="interval"') == 1


@pytest.mark.usefixtures("drawn_before")
def test_a_confusion_is_named_and_shown(content: dict[str, Any]) -> None:
    image = content["mistakes"]["images"][0] | {"label": "cat", "answer": "dog", "probability": 0.87, "file": "cat/9.png"}
    pair = {"label": "cat", "answer": "dog", "count": 12, "share": 0.24, "images": [image]}

    html = page.render(content | {"confusions": {"pairs": [pair]}})

    text = " ".join(Page(html).text.split())
    assert "cat taken for dog 12 images, 24.0 % of those of cat 87 %cat/9.png" in text
    assert f'<img src="{image["picture"]}" alt="cat, taken for dog">' in html


@pytest.mark.usefixtures("drawn_before")
def test_what_is_novel_is_shown_with_how_it_was_answered(content: dict[str, Any]) -> None:
    image = content["mistakes"]["images"][0] | {"novelty": 0.991, "file": "odd.png"}
    found = {"count": 4, "right": 0.25, "right_of_others": 0.9, "distance": 1.5, "histogram": {}, "images": [image]}

    html = page.render(with_evaluation(content, novelty_threshold=0.97) | {"novel": found})

    text = " ".join(Page(html).text.split())
    assert "than 97 % of the validation images. So are 4 of these 18 images: 25.0 % of them are answered rightly" in text
    assert "novelty 0.99odd.png" in text


def test_code_is_marked_and_all_else_is_text() -> None:
    assert page.marked("into `test/` <b>") == "into <code>test/</code> &lt;b&gt;"
