"""models/package/report.py: a published page calls itself by its package and version."""

import pytest

from models.package.report import named

PAGE = '<title>my run · resnet18 on photos, 91 % right</title><h1><span id="name">my run</span></h1><p>my run</p>'


def test_title_and_heading_name_the_package() -> None:
    page = named(PAGE.encode(), "pets:2")

    assert page.decode() == PAGE.replace("my run ·", "pets:2 ·").replace('"name">my run', '"name">pets:2')
    assert named(page, "others:10") == named(PAGE.encode(), "others:10")


@pytest.mark.parametrize("page", [b"", b"<title>photos: resnet18, 91 % right</title>", b"\xff\x00<title>"])
def test_a_page_that_has_no_place_for_a_name_stays_as_it_is(page: bytes) -> None:
    assert named(page, "pets:2") == page
