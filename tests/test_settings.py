"""Settings come from the environment alone."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.imaging.formats import MAX_PIXELS
from app.model.manifest import INT8_WEIGHTS, LITE_WEIGHTS, MANIFEST, WEIGHTS
from app.settings import ApiKey, Settings
from tests.server import ROOT


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DIGITS_{name.upper()}", raising=False)


def test_the_default_limit_of_pixels_is_that_of_decoding() -> None:
    assert Settings().max_pixels == MAX_PIXELS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "8123", 8123),
        ("MODEL_DIR", "/srv/models", Path("/srv/models")),
        ("MAX_WAIT_MS", "2.5", 2.5),
        ("API_KEYS", f"shop:sha256:{'0f' * 32}", (ApiKey("shop", b"\x0f" * 32),)),
        ("RATE_LIMIT", "100/minute", "100/minute"),
        ("RATE_LIMIT_STORAGE", "redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", "10.0.0.0/8, ::1"),
        ("CORS_ORIGINS", "https://a.example,http://b:8080", ("https://a.example", "http://b:8080")),
        (
            "CORS_ORIGINS",
            "capacitor://localhost, chrome-extension://abcdef, null, file://",
            ("capacitor://localhost", "chrome-extension://abcdef", "null", "file://"),
        ),
        ("DOCS", "false", False),
    ],
)
def test_a_setting_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"DIGITS_{name}", text)

    assert getattr(Settings(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOST", ""),
        ("PORT", "70000"),
        ("WORKERS", "0"),
        ("ENGINE", "torch"),
        ("REQUEST_TIMEOUT_MS", "0"),
        ("API_KEYS", "a-key-as-it-is"),
        ("API_KEYS", "sha256:0f0f"),
        ("API_KEYS", "shop:sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("API_KEYS", ""),
        ("API_KEYS", "# none"),
        ("API_KEYS_FILE", "/nowhere"),
        ("API_KEYS_FILE", "/dev/null"),
        ("RATE_LIMIT", "100"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "1/fortnight"),
        ("RATE_LIMIT_STORAGE", "memcached://localhost"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("CORS_ORIGINS", "a.example"),
        ("CORS_ORIGINS", "https://a.example/"),
        ("CORS_ORIGINS", "https://"),
    ],
)
def test_an_invalid_value_is_rejected(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"DIGITS_{name}", text)

    with pytest.raises(ValidationError):
        Settings()


def test_the_error_does_not_repeat_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_API_KEYS", "a-secret")

    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "a-secret" not in raised.value.errors()[0]["msg"]


def test_a_shared_quota_needs_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.settings.find_spec", lambda _: None)

    with pytest.raises(ValidationError, match=r"pip install '\.\[redis\]'"):
        Settings(rate_limit_storage="redis://localhost")


def test_the_documented_table_names_each_setting_with_its_default() -> None:
    rows = re.findall(
        r"^\| `DIGITS_(\w+)` \| (?:`(.*?)`)?", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    settings = Settings().model_dump()

    assert sorted(name.lower() for name, _ in rows) == sorted(settings)
    assert {name.lower(): default for name, default in rows if default} == {
        name: str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
        for name, value in settings.items()
        if value not in ("", None, ())
    }


def test_an_installed_package_brings_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("app.settings._PACKAGED", tmp_path)

    assert Settings().model_dir == tmp_path
    assert Settings(model_dir=Path("other")).model_dir == Path("other")


def test_the_wheel_includes_every_file_of_the_model() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]

    assert included == {
        f"models/{name}": f"app/models/{name}" for name in (MANIFEST, WEIGHTS, LITE_WEIGHTS, INT8_WEIGHTS)
    }
