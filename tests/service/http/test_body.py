"""Stage read: bodies of every shape become images in the order sent, or an error that says what to change."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from service.errors import (
    BodyTooLarge,
    HubelError,
    MalformedRequest,
    Overloaded,
    TooManyImages,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from service.http.body import DRAIN_FACTOR, BodyBudget, Disconnected, WhileConnected, images_in, less_than, read_body

LIMIT = 100  # bytes
MULTIPART = "multipart/form-data; boundary=xyz"
IMAGES = [b"first", b"", b"\r\n--xy\r\n\x00\xff"]  # what is in a file is not looked at here


class Client:
    """Sends a body in chunks as an ASGI server hands it over; counts how many were taken."""

    def __init__(self, *chunks: bytes, hangs_up: bool = False) -> None:
        self.messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": hangs_up or i + 1 < len(chunks)}
            for i, chunk in enumerate(chunks)
        ]
        if hangs_up:
            self.messages.append({"type": "http.disconnect"})
        self.taken = 0

    async def receive(self) -> MutableMapping[str, Any]:
        self.taken += 1
        return self.messages[self.taken - 1]


def read(client: Client, headers: Mapping[str, str] | None = None, buffer: BodyBudget | None = None) -> bytes:
    with (buffer or BodyBudget(LIMIT)).share() as share:
        return asyncio.run(read_body(client.receive, headers or {}, LIMIT, share, "less"))


def part(data: bytes, disposition: str = 'form-data; name="images"; filename="cat.jpg"') -> bytes:
    return f"--xyz\r\nContent-Disposition: {disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode() + data + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xyz--\r\n"


def json_body(*images: bytes) -> bytes:
    return json.dumps({"images": [b64encode(image).decode() for image in images]}).encode()


def refusal(body: bytes, content_type: str, max_images: int = 3) -> HubelError:
    with pytest.raises(HubelError) as caught:
        images_in(body, content_type, max_images)
    return caught.value


@pytest.mark.parametrize("chunks", [[b"x" * LIMIT], [b"x" * 40, b"", b"x" * 60], [b"", b"x"], [b""]])
def test_a_body_within_the_limit_is_put_together(chunks: list[bytes]) -> None:
    assert read(Client(*chunks)) == b"".join(chunks)


@pytest.mark.parametrize("headers", [{}, {"content-length": "101"}, {"transfer-encoding": "chunked"}])
def test_a_body_over_the_limit_is_refused_however_it_was_announced(headers: dict[str, str]) -> None:
    with pytest.raises(BodyTooLarge, match=r"the body has 101 bytes, the limit is 100 \(HUBEL_MAX_BODY_BYTES\); send less"):
        read(Client(b"x" * 60, b"x" * 41), headers)


def test_a_body_somewhat_over_the_limit_is_read_to_its_end_so_that_the_client_sees_the_answer() -> None:
    client = Client(*[b"x" * 50] * 2 * DRAIN_FACTOR)
    with pytest.raises(BodyTooLarge):
        read(client)
    assert client.taken == 2 * DRAIN_FACTOR


def test_an_endless_body_is_not_read_to_its_end() -> None:
    client = Client(*[b"x" * 50] * 1000)
    with pytest.raises(BodyTooLarge, match="the body has 450 or more bytes, the limit is 100"):
        read(client)
    assert client.taken == 2 * DRAIN_FACTOR + 1


def test_an_announced_length_far_over_the_limit_is_refused_before_anything_is_read() -> None:
    client = Client(b"x")
    with pytest.raises(BodyTooLarge, match="the body has 20000000 bytes, "):
        read(client, {"content-length": "20000000"})
    assert client.taken == 0


def test_a_compressed_body_is_refused_before_anything_is_read() -> None:
    client = Client(b"x")
    with pytest.raises(UnsupportedEncoding, match="content-encoding is 'gzip'; send the body as it is"):
        read(client, {"content-encoding": "gzip"})
    assert client.taken == 0


@pytest.mark.parametrize("encoding", ["identity", "Identity", "IDENTITY", " identity ", "", " "])
def test_the_identity_encoding_and_none_are_no_compression(encoding: str) -> None:
    assert read(Client(b"x"), {"content-encoding": encoding}) == b"x"


@pytest.mark.parametrize("encoding", ["GZIP", "identity, gzip", "identity;q=1", "br", "none"])
def test_any_other_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        read(Client(b"x"), {"content-encoding": encoding})


def test_a_client_that_hangs_up_gets_no_answer() -> None:
    with pytest.raises(Disconnected):
        read(Client(b"half of it", hangs_up=True))


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "image/jpg",
        "Image/EPS",
        "application/octet-stream",
        "binary/octet-stream",
        "Binary/Octet-Stream; charset=binary",
        "application/x-www-form-urlencoded",
        "",
        ";;",
    ],
)
def test_a_raw_body_is_one_image_whatever_it_calls_itself(content_type: str) -> None:
    assert images_in(b"\xff\xd8\xff", content_type, 3) == [b"\xff\xd8\xff"]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/html; charset=utf-8",
        "application/vnd.bentoml+pickle",
        "application/problem+json",
        "multipart/mixed; boundary=xyz",
        "multipart/related",
        "image",
        "x",
        "image/jpeg" + ";a=b" * 1000,
        "multipart/form-data" + ";" * 60_000,
    ],
    ids=lambda content_type: content_type[:30],
)
def test_another_type_is_refused_with_those_that_are_accepted(content_type: str) -> None:
    for refused in (refusal(b"x", content_type), refusal(b"", content_type)):
        assert isinstance(refused, UnsupportedMediaType)
        assert f"the content type is {content_type[:100]!r}; send image/*, " in str(refused)
    with pytest.raises(UnsupportedMediaType):
        less_than(content_type)  # which is asked before anything of the body is read


def test_bodies_together_are_limited_and_places_are_given_back_whatever_the_end() -> None:
    levels: list[int] = []
    buffer = BodyBudget(150, levels.append)
    with buffer.share() as share:
        share.set(100)
        message = r"100 bytes of requests are held in memory and 60 more would pass the limit of 150 \(HUBEL_MAX_BUFFERED_BYTES\)"
        announced = Client(b"x" * 60)
        with pytest.raises(Overloaded, match=message):
            read(announced, {"content-length": "60"}, buffer)
        assert announced.taken == 0
        with pytest.raises(Overloaded, match=message):
            read(Client(b"x" * 50, b"x" * 10), {}, buffer)
        assert read(Client(b"x" * 50), {"content-length": "50"}, buffer) == b"x" * 50
        with pytest.raises(Disconnected):
            read(Client(b"x" * 50, hangs_up=True), {}, buffer)
        assert buffer.held == 100
    assert buffer.held == levels[-1] == 0
    assert max(levels) == 150


def test_a_length_that_is_announced_and_not_sent_takes_no_place() -> None:
    buffer = BodyBudget(LIMIT)

    async def scenario() -> None:
        with buffer.share() as share:
            waiting = asyncio.Event()

            async def receive() -> MutableMapping[str, Any]:
                await waiting.wait()
                return {"type": "http.disconnect"}

            reading = asyncio.create_task(read_body(receive, {"content-length": "100"}, LIMIT, share, "less"))
            await asyncio.sleep(0)
            assert buffer.held == 0
            waiting.set()
            with pytest.raises(Disconnected):
                await reading

    asyncio.run(scenario())


def test_what_is_read_only_to_be_forgotten_takes_no_place() -> None:
    buffer = BodyBudget(LIMIT)
    held: list[int] = []

    async def scenario() -> None:
        client = Client(*[b"x" * 40] * 5)

        async def receive() -> MutableMapping[str, Any]:
            held.append(buffer.held)
            return await client.receive()

        with buffer.share() as share:
            await read_body(receive, {}, LIMIT, share, "less")

    with pytest.raises(BodyTooLarge):
        asyncio.run(scenario())
    assert held == [0, 40, 80, 0, 0]


@pytest.mark.parametrize("content_type", ["image/jpeg", MULTIPART, "application/json", ""])
def test_an_empty_body_is_refused(content_type: str) -> None:
    error = refusal(b"", content_type)
    assert isinstance(error, MalformedRequest)
    assert str(error) == "the body is empty; send the bytes of a JPEG, PNG or WebP file"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_multipart_files_come_in_the_order_sent(count: int) -> None:
    assert images_in(multipart(*map(part, IMAGES[:count])), MULTIPART, 3) == IMAGES[:count]


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="images"; filename="cat.jpg"',
        'form-data; name="file"; filename="cat.jpg"',
        "form-data; name=a; filename=b",
        'form-data; filename="only a file name"',
        'form-data; name="images"; filename=""',
        'form-data; name="images"; filename="ü \\"quoted\\"; name=x.jpg"',
    ],
)
def test_a_multipart_field_may_have_any_name(disposition: str) -> None:
    assert images_in(multipart(part(b"one", disposition), part(b"two")), MULTIPART, 3) == [b"one", b"two"]


def test_names_of_multipart_headers_may_be_in_any_case() -> None:
    body = b'--xyz\r\ncontent-DISPOSITION: form-data; name="a"; filename="b"\r\n\r\none\r\n--xyz--\r\n'
    assert images_in(body, "Multipart/Form-Data; Boundary=xyz", 3) == [b"one"]


@pytest.mark.parametrize("boundary", ['"xyz"', "xyz; charset=utf-8"])
def test_the_boundary_may_be_quoted_and_followed_by_other_options(boundary: str) -> None:
    assert images_in(multipart(part(b"one")), f"multipart/form-data; boundary={boundary}", 3) == [b"one"]


def test_a_form_field_that_is_no_file_is_refused_by_name() -> None:
    error = refusal(multipart(part(b"one"), part(b"5", 'form-data; name="k"')), MULTIPART)
    assert isinstance(error, MalformedRequest)
    assert "the form field 'k' is not a file" in str(error)
    assert "parameters in the query string" in str(error)


IMAGE_HEADS = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x01\x02\r\n" + b"WEBPVP8 "]


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="images"',
        "form-data",
        "form-data; name=\"images\"; filename*=UTF-8''c%C3%A4t.jpg",
        "attachment",
    ],
)
@pytest.mark.parametrize("image", IMAGE_HEADS)
def test_a_part_without_a_file_name_is_a_file_where_it_begins_as_an_image(disposition: str, image: bytes) -> None:
    image += b"\r\n--xy" * 3  # in pieces
    sent = [part(image, disposition), part(b"named"), part(image, disposition)]
    assert images_in(multipart(*sent), MULTIPART, 3) == [image, b"named", image]
    for refused in (part(b"", disposition), part(b"x" + image, disposition), part(image[:2], disposition)):
        assert "is not a file: it has no filename and does not begin as a JPEG" in str(refusal(multipart(refused), MULTIPART))
    assert isinstance(refusal(multipart(*sent, sent[0]), MULTIPART), TooManyImages)


def test_a_part_without_headers_is_a_file_where_it_begins_as_an_image() -> None:
    assert images_in(b"--xyz\r\n\r\n" + IMAGE_HEADS[0] + b"\r\n--xyz--\r\n", MULTIPART, 3) == [IMAGE_HEADS[0]]


def test_a_form_field_behind_as_many_images_as_allowed_is_told_what_is_wrong_with_it() -> None:
    error = refusal(multipart(*[part(b"x")] * 3, part(b"5", 'form-data; name="k"')), MULTIPART)
    assert "the form field 'k' is not a file" in str(error)


def test_a_part_without_headers_is_refused() -> None:
    assert "is not a file" in str(refusal(b"--xyz\r\n\r\none\r\n--xyz--\r\n", MULTIPART))


@pytest.mark.parametrize(
    ("body", "content_type", "what"),
    [
        pytest.param(multipart(part(b"one")), "multipart/form-data; boundary=abc", "cannot be parsed", id="another boundary"),
        pytest.param(b"\xff\xd8\xff", MULTIPART, "cannot be parsed", id="no multipart at all"),
        pytest.param(part(b"one"), MULTIPART, "no closing boundary", id="no closing boundary"),
        pytest.param(multipart(part(b"one"))[:-12], MULTIPART, "no closing boundary", id="cut off"),
        pytest.param(multipart(part(b"one")), "multipart/form-data", "no closing boundary", id="no boundary"),
        pytest.param(multipart(part(b"one")), "multipart/form-data; boundary=", "no closing boundary", id="empty boundary"),
        pytest.param(multipart(), MULTIPART, "holds no image", id="no part"),
        pytest.param(b"x", MULTIPART + "x" * 254, "cannot be parsed", id="a boundary of 257 characters"),
    ],
)
def test_a_multipart_body_that_is_not_whole_is_refused(body: bytes, content_type: str, what: str) -> None:
    error = refusal(body, content_type)
    assert isinstance(error, MalformedRequest)
    assert what in str(error)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_base64_images_come_in_the_order_sent(content_type: str) -> None:
    assert images_in(json_body(*IMAGES), content_type, 3) == IMAGES


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"{}", id="no images"),
        pytest.param(b'{"images": "aGk="}', id="images is a string"),
        pytest.param(b'{"images": [1]}', id="an image is a number"),
        pytest.param(b'{"images": [null]}', id="an image is null"),
        pytest.param(b'{"images": [], "k": 5}', id="a parameter in the body"),
        pytest.param(b'{"urls": ["http://example.com/cat.jpg"]}', id="addresses"),
        pytest.param(b'{"\xff": []}', id="not UTF-8"),
        pytest.param(b"\xff\xd8\xff", id="a JPEG"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"{" + b'"x": "y",' * 20 + b'"x": "y"}', id="many names"),
        pytest.param(b'{"images": [' + b'"aGk=",' * 20, id="many images, cut off"),
    ],
)
def test_json_of_another_shape_is_refused_with_the_right_one(body: bytes) -> None:
    error = refusal(body, "application/json")
    assert isinstance(error, MalformedRequest)
    assert str(error).startswith('the JSON body is not {"images": ["<base64>", ...]}: ')


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        "aGk",
        "data:image/jpeg,aGk=",
        "data:image/jpeg;base64,not base64!",
        "data:image/jpeg;base64,data:image/jpeg;base64,aGk=",
        "data:" + "x" * 300 + ";base64,aGk=",
        "xdata:image/jpeg;base64,aGk=",
        "data:image/jpeg;base64,aGk=ü",
        "aGk=\n",
        "aG k=",
        "ünicode",
        "http://127.0.0.1/cat.jpg",
        "/etc/passwd",
    ],
)
def test_text_that_is_not_base64_is_refused_with_its_place(text: str) -> None:
    error = refusal(json.dumps({"images": ["aGk=", text]}).encode(), "application/json")
    assert isinstance(error, MalformedRequest)
    assert str(error).startswith("images[1] is not base64; ")
    assert str(error).endswith("or a data URL of them")


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png;name=a", "", "IMAGE/JPEG", "image\\/jpeg"])
def test_data_urls_as_browsers_make_them_are_taken_among_plain_base64(kind: str) -> None:
    encoded = b64encode(IMAGES[0]).decode()
    body = f'{{"images": ["data:{kind};base64,{encoded}", "{encoded}"]}}'.encode()
    assert images_in(body, "application/json", 3) == [IMAGES[0], IMAGES[0]]


def test_a_data_url_does_not_make_other_json_right() -> None:
    url = '"data:image/jpeg;base64,aGk="'
    for body in (f'{{"urls": [{url}]}}', f'{{"images": {url}}}', f'{{"images": [{url}, 1]}}', f'{{"images": ["aGk="{url[1:]}]}}'):
        assert isinstance(refusal(body.encode(), "application/json"), MalformedRequest)


def test_a_slash_may_be_escaped_as_some_libraries_do() -> None:
    assert images_in(b'{"images": ["\\/\\/\\/\\/"]}', "application/json", 3) == [b"\xff\xff\xff"]


def test_an_empty_list_of_images_is_refused() -> None:
    assert "holds no image" in str(refusal(b'{"images": []}', "application/json"))


@pytest.mark.parametrize(
    ("content_type", "less"),
    [
        ("image/jpeg", "a smaller image"),
        ("", "a smaller image"),
        (MULTIPART, "smaller images, or fewer in one request"),
        ("Application/JSON", "smaller images, or fewer in one request"),
    ],
)
def test_fewer_images_are_asked_for_only_where_there_can_be_several(content_type: str, less: str) -> None:
    assert less_than(content_type) == less


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b'{"images": ["' + b'\\"' * 20 + b'"]}', "images[0] is not base64; ", id="quotation marks in one"),
        pytest.param(json.dumps({"images": {str(i): "aGk=" for i in range(9)}}).encode(), "Expected `array`", id="an object"),
        pytest.param(json.dumps({"images": [{"b64": "aGk="}] * 3}).encode(), "got `object` - at `$.images[0]`", id="objects"),
        pytest.param(b'{"images": ["aGk=", [' + b'"aGk=",' * 9 + b'""]]}', "got `array` - at `$.images[1]`", id="nested lists"),
        pytest.param(
            b'{"images": [' + b'"aGk=",' * 9 + b'"aGk="], "images": ["!"]}', "images[0] is not base64; ", id="named twice"
        ),
    ],
)
def test_many_quotation_marks_are_not_taken_for_many_images(body: bytes, reason: str) -> None:
    error = refusal(body, "application/json")
    assert isinstance(error, MalformedRequest)
    assert reason in str(error)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(multipart(*[part(b"x")] * 4), MULTIPART, id="multipart"),
        pytest.param(json_body(*[b"x"] * 4), "application/json", id="base64"),
    ],
)
def test_too_many_images_are_refused_with_the_limit_and_the_setting(body: bytes, content_type: str) -> None:
    error = refusal(body, content_type)
    assert isinstance(error, TooManyImages)
    assert str(error) == "the request holds more than 3 images, the limit (HUBEL_MAX_IMAGES); send several requests"


def test_as_many_images_as_allowed_are_taken() -> None:
    assert len(images_in(multipart(*[part(b"x")] * 3), MULTIPART, 3)) == 3
    assert len(images_in(json_body(*[b"x"] * 3), "application/json", 3)) == 3


async def hang_up_after(seconds: float) -> dict[str, str]:
    await asyncio.sleep(seconds)
    return {"type": "http.disconnect"}


def test_what_is_awaited_is_cancelled_when_the_client_hangs_up() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def scenario() -> None:
        with pytest.raises(Disconnected), WhileConnected(lambda: hang_up_after(0.01)):
            await work()
        await asyncio.sleep(0)  # the task goes on, it is not cancelled itself

    asyncio.run(scenario())
    assert ended == ["cancelled"]


def test_a_client_that_stays_gets_what_was_computed() -> None:
    async def scenario() -> str:
        with WhileConnected(lambda: hang_up_after(60)):
            await asyncio.sleep(0.01)
            return "answer"

    assert asyncio.run(scenario()) == "answer"


def test_a_deadline_inside_is_no_hang_up() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(0.01):
            with WhileConnected(lambda: hang_up_after(60)):
                await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": [' + b'"",' * 70 + b"[" * 3000,
        b'{"images": ["data:,", ' + b"[" * 50_000,
        b'{"images": ["",' * 1500 + b'"data:"',
        b'{"images": ' + b"[" * 9000 + b"]" * 9000 + b"}",
        b'{"other": ' + b'{"a":' * 4000,
        b'{"images": ["", ' + b'{"data:":' * 4000,
    ],
)
def test_json_that_nests_deeply_is_the_client_s_fault(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match=r'the JSON body is not \{"images"'):
        images_in(body, "application/json", 32)


@pytest.mark.parametrize("images", [32, 33, 60])
@pytest.mark.parametrize("text", ["AAAA", "data:image/png;base64,AAAA", "data:;n=\\\\;base64,AAAA", "\\u0041AAA"])
def test_images_in_json_are_counted_whatever_is_escaped(text: str, images: int) -> None:
    body = ('{"images": [' + ", ".join([f'"{text}"'] * images) + "]}").encode()
    if images == 32:
        assert len(images_in(body, "application/json", 32)) == 32
    else:
        with pytest.raises(TooManyImages, match="more than 32 images"):
            images_in(body, "application/json", 32)


def test_what_ends_in_an_escape_is_no_base64() -> None:
    body = b'{"images": [' + b",".join([b'"AAAA\\\\"'] * 60) + b"]}"
    with pytest.raises(MalformedRequest, match="is not base64"):
        images_in(body, "application/json", 32)
