"""The page in a browser, in front of the real service: pictures in, what they are out, and all that can be asked of them."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.page.browsing import Visit, problem
from tests.page.conftest import LIMIT, OpenPage
from tests.page.given import NOISE, SHIP, explanation, with_an_index, with_explanations
from tests.server import Server

pytestmark = pytest.mark.server

DROP = """(target, files) => {
  const transfer = new DataTransfer();
  for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
  const event = target === "paste" ? new ClipboardEvent("paste", {clipboardData: transfer})
    : new DragEvent(target, {dataTransfer: transfer, cancelable: true});
  window.dispatchEvent(event);
}"""


def as_bmp(path: Path) -> dict[str, Any]:
    """The same picture in a format that browsers read and the service does not."""
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "BMP")
    return {"name": "ship.bmp", "mimeType": "image/bmp", "buffer": buffer.getvalue()}


def test_a_picture_is_named_with_how_sure_that_is_and_the_time_it_took(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(SHIP)
    assert visit.verdict() == "ship"
    assert "% sure" in visit.get(".sure").inner_text()
    assert visit.get(".answer > .bars .label").first.inner_text() == "ship"
    assert visit.get(".answer > .bars .bar").count() == 5
    assert visit.get("#live").inner_text().startswith("ship.jpg: ship, ")
    assert re.search("480...360", visit.get("figcaption").inner_text())
    visit.get("summary", has_text="How long").click()
    stages = ["read the request", "unpack the picture", "wait for its turn", "run the network", "write the answer", "on the way"]
    assert visit.get("details .bar .label").all_inner_texts() == stages
    assert visit.get("#about").is_visible()
    assert "92.4" in visit.get("#about").inner_text()
    assert "cifar10 2, 10 classes" in visit.get("#served").inner_text()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(open_page: OpenPage, way: str) -> None:
    visit = open_page()
    visit.get("#about").wait_for()
    visit.page.evaluate(f"([way, files]) => ({DROP})(way, files)", [way, [["a.jpg", list(SHIP.read_bytes())]]])
    assert visit.verdict() == "ship"


def test_a_curtain_hangs_while_files_are_dragged_and_what_is_no_file_is_refused_in_words(open_page: OpenPage) -> None:
    visit = open_page()
    visit.get("#about").wait_for()
    visit.page.evaluate(f"([way, files]) => ({DROP})(way, files)", ["dragover", [["a.jpg", [1]]]])
    assert visit.get("#curtain").is_visible()
    visit.page.evaluate(f"([way, files]) => ({DROP})(way, files)", ["drop", []])
    assert not visit.get("#curtain").is_visible()
    assert "Only files can be dropped" in visit.get("#notice").inner_text()


def test_several_pictures_are_a_grid_in_which_one_is_chosen_and_removed_by_the_keyboard(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(SHIP, NOISE, {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
    tiles = visit.get(".tile")
    visit.get(".tile[data-kind=refused]").wait_for()
    visit.get(".tile[data-kind=unsure]").nth(1).wait_for()
    assert visit.verdict() == "ship"
    assert "ship" in (tiles.first.get_attribute("aria-label") or "")
    assert "unsure" in (tiles.nth(1).get_attribute("aria-label") or "")
    assert visit.get("#live").inner_text().startswith("3 pictures. ship.jpg: ship")
    tiles.first.focus()
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    assert visit.get("#detail .name").inner_text() == "noise.png"
    assert visit.get("#verdict").evaluate("element => element === document.activeElement")
    visit.button("Remove").press("Enter")
    assert tiles.count() == 2
    visit.get("#clear").click()
    assert not visit.get("#detail").is_visible()
    assert visit.get("#choose").inner_text() == "Choose pictures"


def test_the_keyboard_alone_leads_from_a_sample_to_its_answer(open_page: OpenPage) -> None:
    visit = open_page()
    visit.get(".sample").first.wait_for()
    for _ in range(10):
        visit.page.keyboard.press("Tab")
        if visit.get(".sample").first.evaluate("element => element === document.activeElement"):
            break
    visit.page.keyboard.press("Enter")
    assert visit.verdict() == "ship"


def test_what_is_unlike_all_that_the_model_knows_is_said_so_in_words(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(NOISE)
    visit.verdict()
    assert visit.get(".doubt").inner_text().startswith("Perhaps none of its classes.")
    assert "unsure" in (visit.get("#verdict").get_attribute("class") or "")


def test_what_only_the_browser_can_read_is_sent_as_a_smaller_copy_if_asked_to(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give(as_bmp(SHIP))
    assert "not an accepted" in visit.verdict()
    visit.button("Send a smaller JPEG").click()
    visit.get("#verdict", has_text="ship").wait_for()
    assert re.search("sent as a JPEG of 480...360", visit.get("figcaption").inner_text())


def test_what_is_larger_than_the_service_takes_is_not_sent(open_page: OpenPage) -> None:
    visit = open_page(before=lambda visit: visit.change("/v1/info", lambda body: body["limits"].update(max_body_bytes=100_000)))
    visit.give(as_bmp(SHIP))
    assert visit.verdict() == "Too large to send"
    assert "The file has 518\u202fkB, the service takes 100\u202fkB." in visit.get(".reason").inner_text()
    assert visit.posts("/v1/top-k") == 0
    visit.button("Send a smaller JPEG").click()
    visit.get("#verdict", has_text="ship").wait_for()


def test_a_damaged_file_is_refused_with_the_words_of_the_service(open_page: OpenPage) -> None:
    visit = open_page()
    visit.give({"name": "cut.jpg", "mimeType": "image/jpeg", "buffer": SHIP.read_bytes()[:9000]})
    assert visit.verdict() == "The image cannot be decoded"
    assert "cut off" in visit.get(".reason").inner_text()


def test_a_correction_is_sent_as_feedback(open_page: OpenPage, bundled: Server) -> None:
    visit = open_page()
    visit.give(SHIP)
    visit.verdict()
    visit.button("No, it is").click()
    field = visit.get("#right-label")
    assert field.evaluate("element => element === document.activeElement")
    assert visit.get("#labels option").count() == 10
    field.fill("submarine")
    field.press("Enter")
    assert "knows no class “submarine”" in visit.get(".feedback .fault").inner_text()
    field.fill("Truck")
    field.press("Enter")
    visit.get(".said").wait_for()
    assert visit.get(".said").inner_text() == "Thank you. You said: it is truck."
    with bundled.client() as client:
        assert 'right="false"' in client.get("/metrics").text.partition("hubel_feedback")[2]


def test_the_request_can_be_copied_and_does_the_same(open_page: OpenPage, tmp_path: Path) -> None:
    name = "it's a ship.jpg"
    visit = open_page()
    visit.give({"name": name, "mimeType": "image/jpeg", "buffer": SHIP.read_bytes()})
    visit.verdict()
    visit.get("summary", has_text="Ask it yourself").click()
    curl, python = visit.get(".snippet code").all_inner_texts()
    (tmp_path / name).write_bytes(SHIP.read_bytes())
    for command in (["sh", "-c", curl], [sys.executable, "-c", python]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)["results"][0]["top"][0]["label"] if command[0] == "sh" else done.stdout.split()[0]
        assert said == "ship"


def test_the_map_of_a_class_is_laid_over_the_part_that_the_model_sees(open_page: OpenPage) -> None:
    visit = open_page(before=with_explanations)
    visit.answer("/v1/explain?class=ship", explanation("ship", [[0, 1], [0.5, 0]]))
    visit.give(SHIP)
    visit.verdict()
    bar = visit.get("button.bar").first
    bar.click()
    visit.get(".map").wait_for()
    assert bar.get_attribute("aria-pressed") == "true"
    assert "inside the frame" in visit.get(".note").inner_text()
    assert visit.get(".map").evaluate("canvas => canvas.style.left") == "12.5%"
    corners = """canvas => [[0, 0], [1, 0]].map(([x, y]) =>
      [...canvas.getContext("2d").getImageData(x * (canvas.width - 1), y * (canvas.height - 1), 1, 1).data])"""
    nothing, most = visit.get(".map").evaluate(corners)
    assert most[0] > 200
    assert nothing[0] < 60
    bar.click()
    visit.get(".map").wait_for(state="detached")
    assert visit.posts("/v1/explain") == 1


def test_a_network_that_explains_nothing_has_no_buttons_after_the_first(open_page: OpenPage) -> None:
    visit = open_page(before=with_explanations)
    visit.answer("/v1/explain?*", problem(422, "not_explainable"))
    visit.give(SHIP)
    visit.verdict()
    visit.get("button.bar").first.click()
    visit.get("button.bar").first.wait_for(state="detached")
    assert "cannot be shown for this kind of network" in visit.get(".note").inner_text()
    assert visit.get(".answer > .bars div.bar").count() == 5


def test_without_maps_and_an_index_neither_is_spoken_of(open_page: OpenPage) -> None:
    def without(visit: Visit) -> None:
        visit.change("/openapi.json", lambda body: [body["paths"].pop(path, None) for path in ("/v1/explain", "/v1/similar")])

    visit = open_page(before=without)
    visit.give(SHIP)
    visit.verdict()
    assert visit.get("button.bar").count() == 0
    assert visit.get(".note").inner_text() == ""
    assert visit.get(".alike").inner_text() == ""


def test_pictures_that_look_alike_are_shown_with_class_and_score(open_page: OpenPage) -> None:
    visit = open_page(before=with_an_index)
    thumbnail = "/v1/similar/thumbnails/17-3f9a"
    entry = {"id": 17, "name": "ship/<b>x</b>.jpg", "class": "ship", "score": 0.9312, "thumbnail": thumbnail}
    bare = {"id": 18, "name": "loose.jpg", "class": None, "score": 0.5, "thumbnail": "/v1/similar/thumbnails/gone"}
    visit.answer("/v1/similar?k=*", {"model": "cifar10", "version": 2, "results": [{"similar": [entry, bare]}]})
    visit.page.route(f"{visit.url}{thumbnail}", lambda route: route.fulfill(path=SHIP))
    visit.give(SHIP)
    visit.verdict()
    visit.get(".strip figure").first.wait_for()
    assert visit.get(".strip .label").all_inner_texts() == ["ship", "loose.jpg"]
    assert visit.get(".strip .more").all_inner_texts() == ["alike: 0.93", "alike: 0.50"]
    assert visit.get(".strip img").first.get_attribute("src", timeout=5000)


def test_without_an_index_there_is_nothing_alike_and_it_is_asked_for_once(open_page: OpenPage) -> None:
    visit = open_page(before=with_an_index)
    visit.answer("/v1/similar?k=*", problem(404, "no_index"))
    visit.give(SHIP, NOISE)
    visit.verdict()
    visit.get(".tile").nth(1).click()
    visit.get("#detail .doubt").wait_for()
    assert visit.posts("/v1/similar") == 1
    assert visit.get(".alike").inner_text() == ""


def test_a_version_that_went_live_meanwhile_is_asked_for(open_page: OpenPage) -> None:
    visit = open_page()
    visit.get("#about").wait_for()
    visit.change("/v1/models", lambda body: body["models"][0].update(version=3))
    visit.change("/v1/top-k?k=5", lambda body: body.update(version=3))
    visit.give(SHIP)
    visit.verdict()
    visit.get("#served", has_text="cifar10 3").wait_for()


def test_a_key_is_asked_for_kept_in_memory_alone_and_never_shown(
    open_page: OpenPage, guarded: Server, keys: dict[str, tuple[str, str]]
) -> None:
    visit = open_page(guarded)
    visit.get("#key").wait_for()
    assert not visit.get("#ask").is_visible()
    field = visit.get("#key-text")
    assert field.evaluate("element => element === document.activeElement")
    field.fill("wrong")
    field.press("Enter")
    visit.get("#key-fault", has_text="does not know this key").wait_for()
    field.fill("schlüssel")
    field.press("Enter")
    assert "That is no key" in visit.get("#key-fault").inner_text()
    field.fill(keys["web"][0])
    field.press("Enter")
    visit.give(SHIP)
    assert visit.verdict() == "ship"
    assert keys["web"][0] not in visit.page.content()
    assert "$KEY" in visit.get(".snippet code").first.text_content()  # type: ignore[operator]
    kept = "() => [document.cookie, localStorage.length, sessionStorage.length, location.href]"
    assert visit.page.evaluate(kept) == ["", 0, 0, f"{guarded.url}/"]
    assert not any(keys["web"][0] in url for _, url in visit.asked)
    visit.get("#forget").click()
    assert visit.get("#key").is_visible()
    assert visit.page.reload()
    visit.get("#key").wait_for()


def test_a_key_whose_limit_is_used_up_is_told_when_it_can_be_used_again(
    open_page: OpenPage, guarded: Server, keys: dict[str, tuple[str, str]]
) -> None:
    visit = open_page(guarded)
    visit.get("#key-text").fill(keys["slow"][0])
    visit.get("#key-text").press("Enter")
    visit.give(*[SHIP] * (LIMIT - 3 + 1))
    visit.get(".tile[data-kind=refused]").click()
    assert visit.verdict() == "The key's limit is reached"
    assert visit.get("[role=timer]").inner_text().startswith("It can be tried again in ")
    assert visit.button("Try again").is_disabled()
