"""What crosses HTTP, as pydantic models with examples; the OpenAPI document is made of these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from app.imaging.preprocess import Mode

EXAMPLE_PNG = (  # a 7, 28x28, black and white
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAASElEQVR42oXNoRGAMABD0dcgQKGRjMJmrNZRGAGJ6B0IiiYi90Xuh/+UiuG+"
    "KHuDRSCdNuGEQ94qhCrvciRuYiJmn2AlWv95ALbmCm+eCH3DAAAAAElFTkSuQmCC"
)

EXAMPLE_PREDICTION: dict[str, JsonValue] = {
    "digit": 7,
    "confidence": 0.9981,
    "probabilities": [0.0, 0.0001, 0.0004, 0.0002, 0.0, 0.0, 0.0, 0.9981, 0.0001, 0.0011],
    "top": [
        {"digit": 7, "probability": 0.9981},
        {"digit": 9, "probability": 0.0011},
        {"digit": 2, "probability": 0.0004},
    ],
    "accepted": True,
    "rejection": None,
    "model": {"name": "digits", "version": "2.0.0"},
}


def with_example(example: dict[str, JsonValue], *, strict: bool = False) -> ConfigDict:
    """The configuration of a model whose example the OpenAPI document shows."""
    return ConfigDict(json_schema_extra={"example": example}, strict=strict)


def _show_defaults(schema: JsonDict) -> None:
    properties: Any = schema["properties"]
    schema["example"] = {name: described["default"] for name, described in properties.items()}
    schema["required"] = list(properties)


class FixedAnswer(BaseModel):
    """An answer that is its defaults, and so is its example."""

    model_config = ConfigDict(json_schema_extra=_show_defaults)


def _without_null(schema: dict[str, Any]) -> None:
    schema |= schema.pop("anyOf")[0]  # a query has no null
    del schema["default"]


AcceptRisk = Annotated[
    float | None,
    Field(ge=0.0001, le=0.1, examples=[0.01], json_schema_extra=_without_null),
    Field(description="Accept answers whose risk of being wrong is at most this. Default: the thresholds decide."),
]


class PredictQuery(BaseModel):
    """The query parameters of `POST /predict` and `/predict/batch`."""

    top_k: int = Field(3, ge=1, le=10, description="How many entries `top` has.")
    explain: bool = Field(False, description="Add what the model saw and which pixels decided the answer.")
    preprocess: Mode = Field(
        "auto",
        description="`auto` finds the digit, dark or light, anywhere on the image; `plain` only resizes to 28x28 and "
        "divides by 255, and expects light ink on dark.",
    )
    accept_risk: AcceptRisk = None


class Candidate(BaseModel):
    digit: int = Field(ge=0, le=9)
    probability: float = Field(ge=0, le=1)


class Rejection(BaseModel):
    reason: Literal["not_a_digit", "low_confidence", "several_digits"]
    score: float
    threshold: float
    detail: str | None = Field(None, description="What to do instead; only with `several_digits`.")


class InkBox(BaseModel):
    """Where the digit is, in pixels of the oriented image."""

    x: int
    y: int
    width: int
    height: int


class Explanation(BaseModel):
    """What the model saw, and which pixels decided the answer."""

    input_png: str = Field(description="Base64 PNG, 28x28: what the model saw.")
    saliency_png: str = Field(description="Base64 PNG, 28x28: the brighter, the more the answer depends on it.")
    inverted: bool = Field(description="The ink was darker than the paper.")
    ink_box: InkBox


class ModelName(BaseModel):
    name: str
    version: str


class Prediction(BaseModel):
    """Ten probabilities of one image."""

    digit: int = Field(ge=0, le=9, description="The most probable digit.")
    confidence: float = Field(ge=0, le=1, description="Its probability.")
    probabilities: list[float] = Field(
        min_length=10, max_length=10, description="The calibrated probability of each digit; they sum to 1."
    )
    top: list[Candidate] = Field(description="The `top_k` most probable digits, the best first.")
    accepted: bool = Field(description="Whether the service would act on this answer.")
    rejection: Rejection | None = Field(description="Why the answer is not accepted; null if it is.")
    model: ModelName
    explanation: Explanation | None = Field(None, description="Only with `explain=true`.")

    model_config = with_example(EXAMPLE_PREDICTION)


class BatchEntry(BaseModel):
    """One image of a batch: a prediction or a problem."""

    filename: str
    prediction: Prediction | None
    error: "Problem | None"


class BatchPrediction(BaseModel):
    predictions: list[BatchEntry] = Field(description="One entry per image, in the order sent.")
    model: ModelName


class ImageBody(BaseModel):
    """An image in JSON."""

    image: str = Field(description="Base64, or a `data:` URL.")

    model_config = with_example({"image": EXAMPLE_PNG})


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What to do about it.")
    instance: str
    code: str = Field(description="Stable, for programs.")
    request_id: str


class Alive(FixedAnswer):
    status: Literal["ok"] = "ok"


class Ready(FixedAnswer):
    status: Literal["ready"] = "ready"
