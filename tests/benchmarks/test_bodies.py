"""What the clients send is what the service reads."""

from benchmarks.bodies import FORM, Bodies, form, several, single
from benchmarks.systems import System
from service.http.body import images_in

PHOTOS = [b"first\r\n--", b"second", b"\x00third\r\n"]
RAW = System("raw", "Raw", "", "", (), "/raw")
FILES = System("files", "Files", "", "", (), "/files", content="multipart", field="file", many=True)


def test_a_form_holds_the_files_it_was_made_of() -> None:
    assert images_in(form(PHOTOS, "images"), FORM, 16) == PHOTOS


def test_single_photographs_are_sent_as_the_system_takes_them() -> None:
    assert single(RAW, PHOTOS) == Bodies("/raw", "image/jpeg", PHOTOS)
    sent = single(FILES, PHOTOS)
    assert [images_in(body, sent.content_type, 1) for body in sent.bodies] == [[photo] for photo in PHOTOS]
    assert b'name="file"' in sent.bodies[0]


def test_several_photographs_move_on_from_request_to_request() -> None:
    sent = several(FILES, PHOTOS, count=2)
    assert sent.images == 2
    assert images_in(sent.bodies[0], sent.content_type, 2) == PHOTOS[:2]
    assert images_in(sent.bodies[1], sent.content_type, 2) == [PHOTOS[2], PHOTOS[0]]


def test_a_request_is_a_head_with_its_length_and_the_body() -> None:
    (request,) = Bodies("/x", "image/jpeg", [b"abc"]).requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 3" in head
    assert body == b"abc"
