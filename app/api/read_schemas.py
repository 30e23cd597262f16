"""What crosses HTTP at `POST /read`, as pydantic models with examples."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from app.api.schemas import AcceptRisk, InkBox, ModelName, Problem, with_example
from app.inference.reading import FormField
from app.model.numbers import MAX_DIGITS, Wanted

_MOST_CANDIDATES, _MOST_FIELDS, _MOST_CELLS = 10_000, 100, 50

_Finite = Annotated[float, Field(allow_inf_nan=False)]
Candidates = Annotated[
    list[Annotated[str, Field(pattern=rf"^[0-9]{{1,{MAX_DIGITS}}}$")]],
    Field(
        max_length=_MOST_CANDIDATES,
        description="What a number can be: a JSON list of strings of digits, or the parameter repeated. The answer is "
        "then the probability of each, and `none_of_these`.",
    ),
]
Lengths = Annotated[
    str | None,
    Field(
        pattern=r"^[0-9]{1,3}(-[0-9]{1,3})?$",
        description="How many digits each number has: `4`, or `3-6`. Only readings that fit are considered.",
    ),
]

EXAMPLE_READ: dict[str, JsonValue] = {
    "numbers": [
        {
            "text": "27",
            "probability": 0.971,
            "accepted": True,
            "rejection": None,
            "box": {"x": 41, "y": 60, "width": 130, "height": 92},
            "line": 0,
            "digits": [
                {"digit": 2, "confidence": 0.998, "box": {"x": 41, "y": 63, "width": 60, "height": 88}},
                {"digit": 7, "confidence": 0.994, "box": {"x": 108, "y": 60, "width": 63, "height": 92}},
            ],
            "marks": [],
            "alternatives": [{"text": "21", "probability": 0.019}],
            "none_of_these": None,
        }
    ],
    "fields": None,
    "model": {"name": "digits", "version": "2.0.0"},
}


class _Limits(BaseModel):
    digits: Lengths = None
    candidates: Candidates = []

    model_config = ConfigDict(extra="forbid")

    @property
    def wanted(self) -> Wanted:
        least, _, most = (self.digits or f"1-{MAX_DIGITS}").partition("-")
        within = Wanted(int(least), int(most or least))
        chosen = dict.fromkeys(self.candidates)
        return within._replace(candidates=tuple(filter(within.has, chosen) if self.digits else chosen))

    @model_validator(mode="after")
    def _is_possible(self) -> "_Limits":
        wanted = self.wanted
        if not 1 <= wanted.least <= wanted.most <= MAX_DIGITS:
            raise ValueError(f"digits is a number or a range from 1 to {MAX_DIGITS}")
        if self.candidates and not wanted.candidates:
            raise ValueError("no candidate has as many digits")
        return self


class FieldOfForm(_Limits):
    name: str = Field(min_length=1, max_length=100)
    box: tuple[_Finite, _Finite, _Finite, _Finite] = Field(
        description="x, y, width, height in pixels of the upright image, or in [0, 1] of its sides."
    )
    cells: int = Field(
        0, ge=0, le=_MOST_CELLS, description="That many boxes of equal width, with one digit or nothing in each."
    )

    @model_validator(mode="after")
    def _has_size(self) -> "FieldOfForm":
        if not (min(self.box) >= 0 and 0 < self.box[2] < 1e5 and 0 < self.box[3] < 1e5 and max(self.box[:2]) < 1e5):
            raise ValueError("box is [x, y, width, height], no number below 0, width and height above")
        return self


class ReadParameters(_Limits):
    """The parameters of `POST /read`, in the query or as fields of the form."""

    fields: list[FieldOfForm] = Field(
        [], max_length=_MOST_FIELDS, description="A form: a JSON list of fields, each read by itself."
    )
    accept_risk: Annotated[
        AcceptRisk, Field(description="Accept numbers whose probability of being wrong is at most this.")
    ] = None
    alternatives: int = Field(2, ge=0, le=10, description="How many other readings of each number to give.")

    @property
    def form(self) -> list[FormField]:
        return [FormField(field.box, field.cells, field.wanted) for field in self.fields]

    @model_validator(mode="after")
    def _have_names(self) -> "ReadParameters":
        if len({field.name for field in self.fields}) < len(self.fields):
            raise ValueError("two fields have the same name")
        if self.fields and (self.digits or self.candidates):
            raise ValueError("with fields, digits and candidates are given in each field")
        return self


class DigitOfNumber(BaseModel):
    digit: int = Field(ge=0, le=9)
    confidence: float = Field(ge=0, le=1)
    box: InkBox


class MarkOfNumber(BaseModel):
    after: int = Field(description="How many digits stand before it.")
    mark: Literal[".", ",", "-", "/", ":"]
    confidence: float


class Alternative(BaseModel):
    text: str
    probability: float = Field(ge=0, le=1)


class NumberRejection(BaseModel):
    reason: Literal["low_confidence", "not_a_number", "touching"]
    score: float
    threshold: float


class NumberRead(BaseModel):
    text: str
    probability: float = Field(ge=0, le=1, description="That the whole number is right, calibrated.")
    accepted: bool
    rejection: NumberRejection | None
    box: InkBox
    line: int
    digits: list[DigitOfNumber]
    marks: list[MarkOfNumber]
    alternatives: list[Alternative]
    none_of_these: float | None = Field(description="With candidates: that the number is none of them.")


class Numbers(BaseModel):
    """The numbers of one image in reading order, or of the fields of a form."""

    numbers: list[NumberRead]
    fields: dict[str, NumberRead | None] | None = Field(description="By name; null: the field is empty.")
    model: ModelName

    model_config = with_example(EXAMPLE_READ)


class BatchEntryRead(BaseModel):
    """One image of a batch: its numbers or a problem."""

    filename: str
    reading: Numbers | None
    error: Problem | None


class BatchRead(BaseModel):
    readings: list[BatchEntryRead] = Field(description="One entry per image, in the order sent.")
    model: ModelName
