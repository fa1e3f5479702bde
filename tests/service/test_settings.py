"""HUBEL_* variables become settings; a bad one is named with its value."""

import os
from pathlib import Path

import msgspec
import pytest

import models
from service import settings
from service.settings import Settings, SettingsError


def test_without_variables_everything_has_its_default() -> None:
    assert settings.read({}) == Settings()
    assert settings.read({}).port == 3000
    assert settings.read({}).max_body_bytes == 32 * 1024 * 1024
    assert Path(settings.read({}).store) == Path(models.__file__).parent / "store"


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings.read({"HUBEL_PORT": "", "HUBEL_MODEL": ""}) == Settings()


def test_other_variables_are_left_alone() -> None:
    assert settings.read({"PORT": "1", "HUBEL_PORT_NUMBER": "x", "hubel_port": "x"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HUBEL_HOST", "0.0.0.0", "0.0.0.0"),
        ("HUBEL_PORT", "8080", 8080),
        ("HUBEL_WORKERS", "4", 4),
        ("HUBEL_STORE", "/srv/models", "/srv/models"),
        ("HUBEL_MODEL", "flowers:12", "flowers:12"),
        ("HUBEL_DEVICE", "cuda", "cuda"),
        ("HUBEL_PRECISION", "int8", "int8"),
        ("HUBEL_THREADS", "3", 3),
        ("HUBEL_DECODE_THREADS", "2", 2),
        ("HUBEL_MAX_BODY_BYTES", "1000", 1000),
        ("HUBEL_MAX_PIXELS", "1000", 1000),
        ("HUBEL_MAX_SIDE_PIXELS", "1000", 1000),
        ("HUBEL_MAX_IMAGES", "500", 500),
        ("HUBEL_MAX_BATCH", "1024", 1024),
        ("HUBEL_GPU_MEMORY_MB", "8000", 8000),
        ("HUBEL_MAX_QUEUE", "32", 32),
        ("HUBEL_MAX_WAIT_MS", "2.5", 2.5),
        ("HUBEL_MAX_QUEUE_MS", "800", 800),
        ("HUBEL_DEADLINE_MS", "250", 250),
        ("HUBEL_SHUTDOWN_SECONDS", "5", 5),
        ("HUBEL_API_KEYS_FILE", "/srv/keys.toml", "/srv/keys.toml"),
        ("HUBEL_ALLOW_ANONYMOUS", "true", True),
        ("HUBEL_CORS_ORIGINS", "https://a.example", "https://a.example"),
        ("HUBEL_LOG", "json", "json"),
        ("HUBEL_LOG_LEVEL", "debug", "debug"),
    ],
)
def test_each_setting_is_read_from_its_variable(variable: str, text: str, value: object) -> None:
    changed = msgspec.structs.replace(Settings(), **{variable.removeprefix("HUBEL_").lower(): value})
    assert settings.read({variable: text}) == changed


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        pytest.param("HUBEL_PORT", "http", "int", id="not a number"),
        pytest.param("HUBEL_PORT", "80.5", "int", id="a fraction"),
        pytest.param("HUBEL_PORT", "0", "1", id="port too low"),
        pytest.param("HUBEL_PORT", "65536", "65535", id="port too high"),
        pytest.param("HUBEL_WORKERS", "-1", "0", id="fewer than no worker"),
        pytest.param("HUBEL_WORKERS", "65", "64", id="too many workers"),
        pytest.param("HUBEL_THREADS", "-1", "0", id="negative threads"),
        pytest.param("HUBEL_MAX_BODY_BYTES", "0", "1", id="no byte"),
        pytest.param("HUBEL_MAX_BODY_BYTES", "10MB", "int", id="a number with a unit"),
        pytest.param("HUBEL_MAX_BATCH", "1025", "1024", id="batch too large"),
        pytest.param("HUBEL_DEADLINE_MS", "0", "1", id="no time"),
        pytest.param("HUBEL_DEVICE", "gpu", "Invalid enum value", id="unknown device"),
        pytest.param("HUBEL_ALLOW_ANONYMOUS", "maybe", "bool", id="neither yes nor no"),
        pytest.param("HUBEL_CORS_ORIGINS", "https://a.example/", "scheme://host", id="an origin with a path"),
        pytest.param("HUBEL_CORS_ORIGINS", "a.example", "scheme://host", id="an origin without a scheme"),
        pytest.param("HUBEL_CORS_ORIGINS", "https://A.example", "small letters", id="an origin in capitals"),
        pytest.param("HUBEL_CORS_ORIGINS", "https://me@a.example", "scheme://host", id="an origin with a user"),
        pytest.param("HUBEL_CORS_ORIGINS", "null", "scheme://host", id="the origin of files"),
        pytest.param("HUBEL_CORS_ORIGINS", "https://a.example,", "scheme://host", id="a comma with no origin behind it"),
        pytest.param("HUBEL_CORS_ORIGINS", "*,https://a.example", "* alone", id="all and one"),
        pytest.param("HUBEL_CORS_ORIGINS", "https://*.example", "scheme://host", id="a pattern"),
        pytest.param("HUBEL_LOG_LEVEL", "DEBUG", "Invalid enum value", id="unknown log level"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.read({variable: value, "HUBEL_MODEL": "fine"})
    reason = str(caught.value)
    assert reason.startswith(f"{variable} is {value!r}: ")
    assert allowed in reason.removeprefix(f"{variable} is {value!r}")


def test_a_queue_that_cannot_hold_one_request_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"max_queue is 20, it must hold one request of max_images \(32\)"):
        settings.read({"HUBEL_MAX_QUEUE": "20"})
    with pytest.raises(SettingsError, match=r"max_queue is 512, .* max_images \(600\)"):
        settings.read({"HUBEL_MAX_IMAGES": "600"})


def test_a_buffer_that_cannot_hold_one_body_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"max_buffered_bytes is 20, it must hold one body of max_body_bytes \(33554432\)"):
        settings.read({"HUBEL_MAX_BUFFERED_BYTES": "20"})
    assert settings.read({"HUBEL_MAX_BUFFERED_BYTES": "20", "HUBEL_MAX_BODY_BYTES": "20"}).max_buffered_bytes == 20


def test_memory_that_cannot_hold_one_image_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"max_decode_bytes is 1000, it must hold one image of max_pixels \(65000000\).* 20 bytes"
    ):
        settings.read({"HUBEL_MAX_DECODE_BYTES": "1000"})
    assert settings.read({"HUBEL_MAX_DECODE_BYTES": "1000", "HUBEL_MAX_PIXELS": "50"}).max_decode_bytes == 1000


def test_no_more_pixels_may_be_allowed_than_pillow_allows_without_a_warning() -> None:
    assert settings.read({"HUBEL_MAX_PIXELS": "89478485"}).max_pixels == 89_478_485
    with pytest.raises(SettingsError, match=r"HUBEL_MAX_PIXELS is '89478486'"):
        settings.read({"HUBEL_MAX_PIXELS": "89478486"})


def test_a_short_queue_is_fine_for_small_requests() -> None:
    config = settings.read({"HUBEL_MAX_QUEUE": "4", "HUBEL_MAX_IMAGES": "2"})
    assert (config.max_queue, config.max_images) == (4, 2)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://a.example", ("https://a.example",)),
        (
            "http://localhost:8080, https://b-2.a.example,http://[::1]:80",
            ("http://localhost:8080", "https://b-2.a.example", "http://[::1]:80"),
        ),
    ],
)
def test_origins_stand_in_one_variable_with_commas_between(text: str, origins: tuple[str, ...]) -> None:
    assert settings.read({"HUBEL_CORS_ORIGINS": text}).allowed_origins() == origins


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        setattr(settings.read({}), "port", 1)  # noqa: B010


def test_the_engine_computes_on_all_cores_and_the_workers_share_them_to_decode() -> None:
    cores = os.sched_getaffinity(0)
    assert Settings(workers=2).inference_threads() == len(cores)
    assert Settings(workers=2, threads=5).inference_threads() == 5
    assert Settings(workers=2).decoding_threads() == max(1, len(cores) // 2)
    assert Settings(workers=2, decode_threads=5).decoding_threads() == 5
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert Settings().inference_threads() == 1
        assert Settings(workers=2).decoding_threads() == 1
    finally:
        os.sched_setaffinity(0, cores)


def test_a_cpu_gets_two_workers_and_a_gpu_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "available_cores", lambda: 12)
    monkeypatch.setattr(settings, "has_gpu", lambda: False)
    assert Settings().worker_count() == 2
    monkeypatch.setattr(settings, "has_gpu", lambda: True)
    assert Settings().worker_count() == 12
    assert Settings(device="cpu").worker_count() == 2
    assert Settings(workers=3).worker_count() == 3
    monkeypatch.setattr(settings, "available_cores", lambda: 96)
    assert Settings().worker_count() == settings.MOST_WORKERS
    monkeypatch.setattr(settings, "available_cores", lambda: 1)
    assert Settings().worker_count() == 1
    assert Settings(device="cpu").worker_count() == 1


def test_a_signature_is_asked_for_where_a_key_is_named() -> None:
    assert settings.read({"HUBEL_REQUIRE_SIGNATURE": "/keys/public.pem"}).signature_key() == Path("/keys/public.pem")
    assert settings.read({"HUBEL_REQUIRE_SIGNATURE": ""}).signature_key() is None
