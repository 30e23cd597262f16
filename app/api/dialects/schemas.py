"""What crosses HTTP in the dialects, as pydantic models with examples; the OpenAPI document is made of these."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app import VERSION
from app.api.schemas import EXAMPLE_PNG, EXAMPLE_PREDICTION, FixedAnswer, with_example
from app.imaging.preprocess import SIDE_PX

MODEL, MODEL_VERSION = "digits", "1"  # as these protocols name it; `/model` has the real version
INPUT: Final = "images"
OUTPUT: Final = "probabilities"
SIGNATURE: Final = "serving_default"

_EXAMPLE_ROW = EXAMPLE_PREDICTION["probabilities"]


class Error(BaseModel):
    """An error in the form of these protocols."""

    error: str


# TensorFlow Serving; `tensorflow_serving` checks the images itself

_Image = Annotated[object, WithJsonSchema({"anyOf": [{"type": "array", "items": {}}, {"type": "object"}]})]
_Probabilities = Annotated[list[float], Field(min_length=10, max_length=10)]


class PredictRequest(BaseModel):
    signature_name: Literal["", "serving_default"] = SIGNATURE
    instances: list[_Image] | None = Field(None, description="The row format: a list of images.")
    inputs: _Image | None = Field(None, description='The column format: a list of images, or `{"images": [...]}`.')

    model_config = with_example({"instances": [{"b64": EXAMPLE_PNG}]}, strict=True)


class PredictAnswer(BaseModel):
    predictions: list[_Probabilities] | None = Field(None, description="The answer to `instances`.")
    outputs: list[_Probabilities] | None = Field(None, description="The answer to `inputs`.")

    model_config = with_example({"predictions": [_EXAMPLE_ROW]})


class VersionStatus(BaseModel):
    version: Literal["1"] = "1"
    state: Literal["LOADING", "AVAILABLE"] = "AVAILABLE"
    status: dict[str, str] = {"error_code": "OK", "error_message": ""}


class ModelStatus(FixedAnswer):
    model_version_status: tuple[VersionStatus, ...] = (VersionStatus(),)


# The Open Inference Protocol

# null means the same as left out: MLServer's clients send it
_Parameters = Annotated[
    dict[str, object],
    BeforeValidator(lambda given: {} if given is None else given),
    WithJsonSchema({"type": ["object", "null"]}),
]


class InferInput(BaseModel):
    name: Literal["images"]
    datatype: Literal["FP32", "BYTES"]
    shape: list[int] = Field(min_length=1, max_length=4)
    parameters: _Parameters = Field(default_factory=dict)
    data: object = Field(None, description="Numbers or base64, nested or flat; left out if it is binary.")

    model_config = ConfigDict(strict=True)


class InferOutput(BaseModel):
    name: Literal["probabilities"]
    parameters: _Parameters = Field(default_factory=dict)

    model_config = ConfigDict(strict=True)


class InferRequest(BaseModel):
    id: str | None = None
    parameters: _Parameters = Field(default_factory=dict)
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = None

    model_config = with_example(
        {"id": "42", "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_PNG]}]},
        strict=True,
    )


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class OutputTensor(TensorMetadata):
    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferAnswer(BaseModel):
    id: str | None = None
    model_name: Literal["digits"] = "digits"
    model_version: Literal["1"] = "1"
    outputs: list[OutputTensor] = Field(min_length=1, max_length=1)

    model_config = with_example(
        {
            "id": "42",
            "model_name": MODEL,
            "model_version": MODEL_VERSION,
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [1, 10], "data": _EXAMPLE_ROW}],
        }
    )


class ServerMetadata(FixedAnswer):
    name: str = MODEL
    version: str = VERSION
    extensions: tuple[str, ...] = ("binary_tensor_data",)


class ModelMetadata(FixedAnswer):
    name: str = MODEL
    versions: tuple[str, ...] = (MODEL_VERSION,)
    platform: str = "keras"
    inputs: tuple[TensorMetadata, ...] = (TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, SIDE_PX, SIDE_PX, 1]),)
    outputs: tuple[TensorMetadata, ...] = (TensorMetadata(name=OUTPUT, datatype="FP32", shape=[-1, 10]),)


class Live(FixedAnswer):
    live: Literal[True] = True


class IsReady(FixedAnswer):
    ready: Literal[True] = True
