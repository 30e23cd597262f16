"""What an operator may change: environment variables `DIGITS_*`, read once, at the start."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Frozen. A wrong value raises pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="DIGITS_", frozen=True)

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    model_dir: Path = Path("models")
    engine: Literal["keras", "litert"] = "keras"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: int = Field(10 * 2**20, ge=1)
    max_pixels: int = Field(50_000_000, ge=1)  # decoding's, which a supervisor shall not import: 30 MiB of OpenCV
    max_images: int = Field(256, ge=1, le=1000)
    max_batch: int = Field(64, ge=1, le=256)
    max_wait_ms: float = Field(0, ge=0, le=1000)
    max_queue: int = Field(1024, ge=1)
    max_delay_ms: int = Field(50, ge=1)
    request_timeout_ms: int = Field(10_000, ge=1)
    drain_seconds: float = Field(0, ge=0, le=600)

    @property
    def address(self) -> str:
        """Where the service is reached, as `http://host:port`."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"
