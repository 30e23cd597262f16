"""What an operator may change: environment variables `DIGITS_*`, read once, at the start."""

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

_NOTHING = hashlib.sha256().hexdigest()  # what a script makes of a key that was never set


class ApiKey(NamedTuple):
    """What is kept of a key: its SHA-256, and what the log and the quota call it."""

    name: str
    sha256: bytes


def _api_keys(given: object) -> object:
    """Of lines, or of a list with commas, such as ``name:sha256:<64 hex digits>``; # begins a comment."""
    if not isinstance(given, str):
        return given
    lines = [line.partition("#")[0].split(",") for line in given.splitlines()]
    keys = tuple(_api_key(text.strip()) for line in lines for text in line if text.strip())
    if not keys:
        raise ValueError("there is no key in it: unset it to let everyone in")
    return keys


def _api_key(text: str) -> ApiKey:
    found = re.fullmatch(r"(?:(?P<name>[A-Za-z0-9._-]{1,64}):)?sha256:(?P<digest>[0-9a-f]{64})", text)
    if found is None:
        raise ValueError("a key is given as [name:]sha256:<64 hex digits>, the SHA-256 of it, never as itself")
    if found["digest"] == _NOTHING:
        raise ValueError("this is the SHA-256 of an empty key: whoever sends none would be let in")
    return ApiKey(found["name"] or found["digest"][:8], bytes.fromhex(found["digest"]))


def _api_keys_in_file(given: object) -> object:
    if not isinstance(given, str | Path):
        return given
    try:
        return _api_keys(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise ValueError("the file cannot be read") from error


def _origins(given: object) -> object:
    if not isinstance(given, str):
        return given
    origins = tuple(text.strip() for text in given.split(",") if text.strip())
    if not all(re.fullmatch(r"\*|https?://[^/\s]+", origin) for origin in origins):
        raise ValueError("an origin is given as https://host or https://host:port, and several with commas")
    return origins


def _networks(given: str) -> str:
    for text in given.split(",") if given else []:
        ip_network(text.strip())  # raises ValueError
    return given


def _rate(given: str) -> str:
    if given and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", given):
        raise ValueError("a rate is given as 100/minute, or a number for each second, hour or day")
    return given


def _storage(given: str) -> str:
    if given and not re.match("rediss?://", given):
        raise ValueError("a storage is given as redis://host:6379, or rediss:// with TLS")
    if given and find_spec("redis") is None:
        raise ValueError("the library redis is not installed: pip install '.[redis]'")
    return given


_PACKAGED = Path(__file__).with_name("models")  # which an installed package has, and a checkout has not


class Settings(BaseSettings):
    """Frozen. A wrong value raises pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="DIGITS_", frozen=True)

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    model_dir: Path = Field(default_factory=lambda: _PACKAGED if _PACKAGED.is_dir() else Path("models"))
    engine: Literal["keras", "litert", "litert-int8"] = "keras"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: int = Field(10 * 2**20, ge=1)
    max_pixels: int = Field(50_000_000, ge=1)  # decoding's, which a supervisor shall not import: 30 MiB of OpenCV
    max_images: int = Field(256, ge=1, le=1000)
    max_batch: int = Field(64, ge=1, le=256)
    max_wait_ms: float = Field(0, ge=0, le=1000)
    max_queue: int = Field(1024, ge=1)
    max_delay_ms: int = Field(200, ge=1)
    request_timeout_ms: int = Field(10_000, ge=1)
    drain_seconds: float = Field(0, ge=0, le=600)
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_api_keys)] = ()
    api_keys_file: Annotated[tuple[ApiKey, ...], NoDecode, BeforeValidator(_api_keys_in_file)] = ()  # what it holds
    rate_limit: Annotated[str, AfterValidator(_rate)] = ""
    rate_limit_storage: Annotated[str, AfterValidator(_storage)] = ""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = ()
    playground: bool = True
    docs: bool = True

    @property
    def address(self) -> str:
        """Where the service is reached, as `http://host:port`."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """All that open the service; none, and everyone may ask."""
        return self.api_keys + self.api_keys_file

    @property
    def local(self) -> bool:
        """Whether it is this machine alone that reaches the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def complaint(error: ValidationError) -> str:
    """A line for each setting that is wrong."""
    return "\n".join(
        f"digits: DIGITS_{str(wrong['loc'][0]).upper()}: {wrong['msg'].removeprefix('Value error, ')}"
        for wrong in error.errors(include_url=False)
    )


def misspelt(names: Iterable[str] = os.environ) -> list[str]:
    """Those of an environment's names that say DIGITS_, and are neither a setting nor what a caller reads."""
    known = {"DIGITS_API_KEY", "DIGITS_URL", *(f"DIGITS_{name.upper()}" for name in Settings.model_fields)}
    return sorted(name for name in names if name.upper().startswith("DIGITS_") and name.upper() not in known)
