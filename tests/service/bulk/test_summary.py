"""service/bulk/summary.py: the figures of a run."""

from service.bulk.row import Row
from service.bulk.summary import MOST_CLASSES, Summary


def test_classes_unsure_novel_and_failed_images_are_counted() -> None:
    summary = Summary(novel_above=0.9)
    summary.add([Row("1", "cat", 0.9, False, 0.2), Row("2", "cat", 0.4, True, 0.95), Row("3", "dog", 0.9, False, 0.9)])
    summary.add([Row("4", error="unreadable"), Row("5", error="image_too_large"), Row("6", error="unreadable")])
    assert summary.text(5, 2.0).splitlines() == [
        "class  images",
        "cat    2",
        "dog    1",
        "6 images: 3 answered, 1 unsure, 1 of them novel",
        "3 failed: 2 unreadable, 1 image_too_large",
        "5 images in 2.0 s, 2.5 images/s",
    ]


def test_of_many_classes_the_most_frequent_are_listed() -> None:
    summary = Summary()
    summary.add(Row(str(number), f"class {number}", 0.9, False) for number in range(MOST_CLASSES + 7))
    assert "(7 other classes)  7" in summary.text(1, 1.0)
    assert "novel" not in summary.text(1, 1.0)
