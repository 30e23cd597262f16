"""Settings: the environment, and nothing else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.decoding import MAX_PIXELS
from app.settings import Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DIGITS_{name.upper()}", raising=False)


def test_without_an_environment_the_defaults_of_the_contract_hold() -> None:
    settings = Settings()

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model_dir == Path("models")
    assert settings.max_body_bytes == 10 * 1024 * 1024
    assert settings.max_pixels == MAX_PIXELS == 50_000_000
    assert settings.workers == 1
    assert settings.max_images == 256


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("PORT", "8123", 8123),
        ("WORKERS", "4", 4),
        ("MODEL_DIR", "/srv/models", Path("/srv/models")),
        ("LOG_LEVEL", "warning", "warning"),
        ("MAX_BODY_BYTES", "1000", 1000),
        ("MAX_PIXELS", "1000", 1000),
        ("ENGINE", "litert", "litert"),
        ("MAX_IMAGES", "12", 12),
        ("MAX_BATCH", "8", 8),
        ("MAX_WAIT_MS", "2.5", 2.5),
        ("MAX_QUEUE", "16", 16),
        ("MAX_DELAY_MS", "20", 20),
        ("REQUEST_TIMEOUT_MS", "500", 500),
        ("DRAIN_SECONDS", "2.5", 2.5),
    ],
)
def test_each_setting_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"DIGITS_{name}", text)

    assert getattr(Settings(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOST", ""),
        ("PORT", "70000"),
        ("PORT", "http"),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "two"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_PIXELS", "-1"),
        ("ENGINE", "torch"),
        ("MAX_IMAGES", "0"),
        ("MAX_BATCH", "0"),
        ("MAX_WAIT_MS", "-1"),
        ("MAX_QUEUE", "0"),
        ("MAX_DELAY_MS", "0"),
        ("REQUEST_TIMEOUT_MS", "0"),
        ("DRAIN_SECONDS", "-1"),
    ],
)
def test_a_value_out_of_its_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"DIGITS_{name}", text)

    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:8123"), ("::1", "http://[::1]:8123")], ids=["IPv4", "IPv6"]
)
def test_the_address_is_one_that_a_browser_takes(host: str, address: str) -> None:
    assert Settings(host=host, port=8123).address == address


def test_settings_are_frozen() -> None:
    settings = Settings()

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
