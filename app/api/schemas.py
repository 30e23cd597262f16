"""What crosses HTTP, as pydantic models with examples; the OpenAPI document is made of these."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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
    "model": {"name": "digits", "version": "1.1.0"},
}

EXAMPLE_REQUEST_ID = "4b1c6e9f2a7d8053"
EXAMPLE_PROBLEM: dict[str, JsonValue] = {
    "type": "about:blank",
    "title": "No ink",
    "status": 422,
    "detail": "Nothing on the image stands out from its ground: draw a digit on it.",
    "instance": f"urn:request:{EXAMPLE_REQUEST_ID}",
    "code": "no_ink",
    "request_id": EXAMPLE_REQUEST_ID,
}


def with_example(example: dict[str, JsonValue], *, strict: bool = False) -> ConfigDict:
    """The configuration of a model whose example the OpenAPI document shows."""
    return ConfigDict(json_schema_extra={"example": example}, strict=strict)


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class PredictQuery(_Schema):
    """The query parameters of `POST /predict` and `/predict/batch`."""

    top_k: int = Field(3, ge=1, le=10, description="How many entries `top` has.")
    explain: bool = Field(False, description="Add what the model saw and which pixels decided the answer.")
    preprocess: Mode = Field(
        "auto",
        description="`auto` finds the ink wherever and however it was drawn; `plain` only resizes to 28x28 and divides "
        "by 255, and expects light ink on dark.",
    )


class Candidate(_Schema):
    digit: int = Field(ge=0, le=9)
    probability: float = Field(ge=0, le=1)


class Rejection(_Schema):
    reason: Literal["not_a_digit", "low_confidence", "several_digits"]
    score: float
    threshold: float


class InkBox(_Schema):
    """Where the digit is, in pixels of the oriented image."""

    x: int
    y: int
    width: int
    height: int


class Explanation(_Schema):
    """What the model saw, and which pixels decided the answer."""

    input_png: str = Field(description="Base64 PNG, 28x28: what the model saw.")
    saliency_png: str = Field(description="Base64 PNG, 28x28: the brighter, the more the answer depends on it.")
    inverted: bool = Field(description="The ink was darker than the paper.")
    ink_box: InkBox


class ModelName(_Schema):
    name: str
    version: str


class Prediction(_Schema):
    """Ten probabilities of one image."""

    digit: int = Field(ge=0, le=9, description="The most probable digit.")
    confidence: float = Field(ge=0, le=1, description="Its probability.")
    probabilities: list[float] = Field(
        min_length=10, max_length=10, description="The calibrated probability of each digit; they sum to 1."
    )
    top: list[Candidate] = Field(description="The `top_k` most probable digits, the best first.")
    accepted: bool = Field(description="Whether the service would act on this answer.")
    rejection: Rejection | None = Field(description="Why not, where it would not.")
    model: ModelName
    explanation: Explanation | None = Field(None, description="Only with `explain=true`.")

    model_config = with_example(EXAMPLE_PREDICTION)


class BatchEntry(_Schema):
    """One image of a batch: a prediction or a problem."""

    filename: str
    prediction: Prediction | None
    error: "Problem | None"


class BatchPrediction(_Schema):
    predictions: list[BatchEntry] = Field(description="One entry per image, in the order sent.")
    model: ModelName

    model_config = with_example(
        {
            "predictions": [
                {"filename": "one.png", "prediction": EXAMPLE_PREDICTION, "error": None},
                {"filename": "two.png", "prediction": None, "error": EXAMPLE_PROBLEM},
            ],
            "model": EXAMPLE_PREDICTION["model"],
        }
    )


class ImageBody(_Schema):
    """An image in JSON."""

    image: str = Field(description="Base64, or a `data:` URL.")

    model_config = with_example({"image": EXAMPLE_PNG})


class Problem(_Schema):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What to do about it.")
    instance: str
    code: str = Field(description="Stable, for programs.")
    request_id: str

    model_config = with_example(EXAMPLE_PROBLEM)


class Alive(_Schema):
    status: Literal["ok"]

    model_config = with_example({"status": "ok"})


class Ready(_Schema):
    status: Literal["ready"]

    model_config = with_example({"status": "ready"})
