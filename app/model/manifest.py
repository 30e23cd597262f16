"""The manifest: the JSON beside the weights that describes them. Read, written and checked here."""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, PositiveFloat, ValidationError, model_validator

from app.errors import InvalidParameter, ModelError

MANIFEST = "digits.json"
WEIGHTS = "digits.keras"
LITE_WEIGHTS = "digits.tflite"
INT8_WEIGHTS = "digits-int8.tflite"


class Thresholds(BaseModel):
    """Beyond these, an answer is given but not accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_a_digit: float  # maximum log-odds of being no digit
    low_confidence: float  # minimum probability of the best digit


class RiskCurve(BaseModel):
    """How often an answer is wrong, by `app.model.decision.error_score`; straight on log scales between the knots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int  # that it was measured on
    without_digit: float  # their share, as weighted, that shows no digit
    scores: tuple[PositiveFloat, ...]
    risks: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _rises_to_one(self) -> Self:
        last = list(zip(self.scores, self.risks, strict=True))[-1:]
        if last != [(1, 1)] or list(self.scores) != sorted(self.scores) or list(self.risks) != sorted(self.risks):
            raise ValueError("scores and risks must rise to 1")
        return self


Source = Literal["mnist", "pictures"]


class Histogram(BaseModel):
    """Shares of the values: up to the first edge, between neighbouring edges, beyond the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]  # ascending
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shares) != len(self.edges) + 1 or sorted(self.edges) != list(self.edges):
            raise ValueError("a histogram needs ascending edges, and one share more than edges")
        return self


class Reference(BaseModel):
    """Features of reference pictures, against which drift is measured. See `app.telemetry.drift`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source  # MNIST's validation images, or an operator's own pictures
    pictures: int
    ink_fraction: Histogram
    stroke_width: Histogram
    polarity: Histogram
    confidence: Histogram
    digit: Histogram


class TrainingSource(BaseModel):
    """Training data besides MNIST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    licence: str
    samples: int
    sha256: str  # of its arrays


class Manifest(BaseModel):
    """What `models/digits.json` holds and `GET /model` answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str  # SemVer of the model, not of the service
    sha256: dict[str, str]  # file name -> hex digest
    preprocessing: str  # app.imaging.preprocess.VERSION that they were measured with
    classes: tuple[int, ...]
    architecture: str
    parameters: int
    multiply_adds: int
    recipe: dict[str, JsonValue]
    data: dict[str, str]  # array of MNIST -> hex digest
    sources: tuple[TrainingSource, ...] = ()
    temperature: float
    thresholds: Thresholds
    risk: RiskCurve | None = None  # without one, `accept_risk` is refused
    metrics: dict[str, float]
    trained: dict[str, str]  # library -> version; also the machine and the date
    reference: Reference | None = None  # without one, drift is not measured

    def require_risk(self) -> RiskCurve:
        """Raises InvalidParameter if there is no risk curve."""
        if self.risk is None:
            raise InvalidParameter("This model has no risk curve: leave out accept_risk, or export the model again.")
        return self.risk


def read_manifest(model_dir: Path) -> Manifest:
    """Raises ModelError for a missing or damaged manifest."""
    try:
        return Manifest.model_validate_json((model_dir / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"no model: {model_dir / MANIFEST} does not exist (set DIGITS_MODEL_DIR)") from error
    except (OSError, ValidationError) as error:
        raise ModelError(f"damaged model: {model_dir / MANIFEST} is not a readable manifest") from error


def write_manifest(manifest: Manifest, model_dir: Path) -> None:
    part = model_dir / f"part-{MANIFEST}"
    part.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    part.replace(model_dir / MANIFEST)  # atomic


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(manifest: Manifest, model_dir: Path, file_name: str, preprocessing: str) -> Path:
    """The path of a file of the model whose bytes and preprocessing match the manifest.

    Raises ModelError for one that is missing, changed since export, or trained with another preprocessing.
    """
    path = model_dir / file_name
    if manifest.preprocessing != preprocessing:
        raise ModelError(
            f"incompatible model: {path} was trained with preprocessing {manifest.preprocessing}, "
            f"this service has {preprocessing}: train and export it again"
        )
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ModelError(f"no model: {path} cannot be read") from error
    if digest != manifest.sha256.get(file_name):
        raise ModelError(f"damaged model: the sha256 of {path} is not the one in {MANIFEST}")
    return path
