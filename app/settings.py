"""Settings: environment variables `DIGITS_*`, read once at startup."""

import hashlib
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_SHA256_OF_NOTHING = hashlib.sha256().hexdigest()  # what a script computes from an unset key


class ApiKey(NamedTuple):
    """The SHA-256 of a key, and its name in the log and for the quota. The key itself is never stored."""

    name: str
    sha256: bytes


def _api_keys(given: str) -> tuple[ApiKey, ...]:
    """Keys such as ``name:sha256:<64 hex digits>``, separated by commas or newlines; # begins a comment."""
    lines = [line.partition("#")[0].split(",") for line in given.splitlines()]
    keys = tuple(_api_key(text.strip()) for line in lines for text in line if text.strip())
    if not keys:
        raise ValueError("there is no key in it: unset it to allow requests without a key")
    return keys


def _api_key(text: str) -> ApiKey:
    found = re.fullmatch(r"(?:(?P<name>[A-Za-z0-9._-]{1,64}):)?sha256:(?P<digest>[0-9a-f]{64})", text)
    if found is None:
        raise ValueError("a key must look like [name:]sha256:<64 hex digits>, the SHA-256 and not the key itself")
    if found["digest"] == _SHA256_OF_NOTHING:
        raise ValueError("this is the SHA-256 of an empty key: an empty header would be accepted")
    return ApiKey(found["name"] or found["digest"][:8], bytes.fromhex(found["digest"]))


def _api_keys_in_file(given: str) -> tuple[ApiKey, ...]:
    try:
        return _api_keys(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise ValueError("the file cannot be read") from error


def _origins(given: str) -> tuple[str, ...]:
    origins = tuple(text.strip() for text in given.split(",") if text.strip())
    if not all(re.fullmatch(r"\*|null|file://|[a-z][a-z0-9+.-]*://[^/\s*]+", origin) for origin in origins):
        raise ValueError(
            "an origin must look like https://host, scheme://host:port, null or *; separate several with commas"
        )
    return origins


def _networks(given: str) -> str:
    for text in given.split(",") if given else []:
        ip_network(text.strip())  # raises ValueError
    return given


def _rate(given: str) -> str:
    if given and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", given):
        raise ValueError("a rate must look like 100/minute; second, hour and day work too")
    return given


def _storage(given: str) -> str:
    if given and not re.match("rediss?://", given):
        raise ValueError("a storage must look like redis://host:6379, or rediss:// with TLS")
    if given and find_spec("redis") is None:
        raise ValueError("the library redis is not installed: pip install '.[redis]'")
    return given


_PACKAGED = Path(__file__).with_name("models")  # in an installed package, not in a checkout


class Settings(BaseSettings):
    """Frozen. An invalid value raises pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="DIGITS_", frozen=True, validate_default=False)

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    model_dir: Path = Field(default_factory=lambda: _PACKAGED if _PACKAGED.is_dir() else Path("models"))
    engine: Literal["keras", "litert", "litert-int8"] = "keras"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: int = Field(10 * 2**20, ge=1)
    max_pixels: int = Field(64_000_000, ge=1)  # as `imaging` has it, which loads OpenCV (30 MiB)
    max_images: int = Field(256, ge=1, le=1000)
    max_batch: int = Field(64, ge=1, le=256)
    max_wait_ms: float = Field(0, ge=0, le=1000)
    max_queue: int = Field(1024, ge=1)
    max_delay_ms: int = Field(200, ge=1)
    request_timeout_ms: int = Field(10_000, ge=1)
    drain_seconds: float = Field(0, ge=0, le=600)
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_api_keys)] = ()
    api_keys_file: Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_api_keys_in_file)] = ()  # its content
    rate_limit: Annotated[str, AfterValidator(_rate)] = ""
    rate_limit_storage: Annotated[str, AfterValidator(_storage)] = ""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = ()
    playground: bool = True
    docs: bool = True

    @property
    def address(self) -> str:
        """The service's URL, `http://host:port`."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """All keys; without any, requests need none."""
        return self.api_keys + self.api_keys_file

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def complaint(error: ValidationError) -> str:
    """One line per invalid setting."""
    return "\n".join(
        f"digits: DIGITS_{str(wrong['loc'][0]).upper()}: {wrong['msg'].removeprefix('Value error, ')}"
        for wrong in error.errors(include_url=False)
    )


def misspelt(names: Iterable[str] = os.environ) -> list[str]:
    """The DIGITS_* variables that are neither a setting nor read by a client."""
    known = {"DIGITS_API_KEY", "DIGITS_URL", *(f"DIGITS_{name.upper()}" for name in Settings.model_fields)}
    return sorted(name for name in names if name.upper().startswith("DIGITS_") and name.upper() not in known)
