"""What crosses HTTP in the dialects, as pydantic models with examples; the OpenAPI document is made of these."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app import VERSION
from app.api.schemas import EXAMPLE_PNG, EXAMPLE_PREDICTION, with_example
from app.imaging.preprocess import SIDE_PX

MODEL, MODEL_VERSION = "digits", "1"  # as these protocols name it; `/model` has the real version
INPUT, OUTPUT = "images", "probabilities"

_EXAMPLE_ROW = EXAMPLE_PREDICTION["probabilities"]


class Error(BaseModel):
    """An error in the form of these protocols."""

    error: str


# TensorFlow Serving. The requests only describe: `tensorflow_serving` checks the images itself, with better messages.

_Level = Annotated[float, Field(ge=0, le=1)]
_Row = Annotated[list[_Level], Field(min_length=SIDE_PX, max_length=SIDE_PX)]
_OneLevel = Annotated[list[_Level], Field(min_length=1, max_length=1)]
_DeepRow = Annotated[list[_OneLevel], Field(min_length=SIDE_PX, max_length=SIDE_PX)]
_Array = Annotated[list[_Row] | list[_DeepRow], Field(min_length=SIDE_PX, max_length=SIDE_PX)]
_Probabilities = Annotated[list[float], Field(min_length=10, max_length=10)]


class EncodedImage(BaseModel):
    b64: str = Field(json_schema_extra={"contentEncoding": "base64"})

    model_config = ConfigDict(extra="forbid")


_Images = Annotated[list[_Array | EncodedImage], Field(min_length=1)]


class NamedImage(BaseModel):
    images: _Array | EncodedImage

    model_config = ConfigDict(extra="forbid")


class NamedImages(BaseModel):
    images: _Images

    model_config = ConfigDict(extra="forbid")


class RowRequest(BaseModel):
    """The row format."""

    signature_name: Literal["", "serving_default"] = "serving_default"
    instances: Annotated[list[_Array | EncodedImage | NamedImage], Field(min_length=1)]

    model_config = with_example({"instances": [{"b64": EXAMPLE_PNG}]})


class ColumnRequest(BaseModel):
    """The column format."""

    signature_name: Literal["", "serving_default"] = "serving_default"
    inputs: _Images | NamedImages

    model_config = with_example({"inputs": {INPUT: [{"b64": EXAMPLE_PNG}]}})


class RowAnswer(BaseModel):
    """The answer to `instances`."""

    predictions: list[_Probabilities]

    model_config = with_example({"predictions": [_EXAMPLE_ROW]})


class ColumnAnswer(BaseModel):
    """The answer to `inputs`."""

    outputs: list[_Probabilities]

    model_config = with_example({"outputs": [_EXAMPLE_ROW]})


class VersionStatus(BaseModel):
    version: Literal["1"] = "1"
    state: Literal["LOADING", "AVAILABLE"]
    status: dict[str, str] = {"error_code": "OK", "error_message": ""}


class ModelStatus(BaseModel):
    model_version_status: list[VersionStatus]

    model_config = with_example(
        {"model_version_status": [VersionStatus(state="AVAILABLE").model_dump()]},
    )


# The Open Inference Protocol

# null means the same as left out: MLServer's clients send it
_Parameters = Annotated[
    dict[str, object],
    BeforeValidator(lambda given: {} if given is None else given),
    WithJsonSchema({"type": ["object", "null"]}),
]


class InferInput(BaseModel):
    name: str = Field(json_schema_extra={"const": INPUT})
    datatype: str = Field(json_schema_extra={"enum": ["FP32", "BYTES"]})
    shape: list[int] = Field(min_length=1, max_length=4)
    parameters: _Parameters = Field(default_factory=dict)
    data: object = Field(None, description="Numbers or base64, nested or flat; left out if it is binary.")

    model_config = ConfigDict(strict=True)


class InferOutput(BaseModel):
    name: str = Field(json_schema_extra={"const": OUTPUT})
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


class ServerMetadata(BaseModel):
    name: str = MODEL
    version: str = VERSION
    extensions: list[str] = ["binary_tensor_data"]

    model_config = with_example({"name": MODEL, "version": VERSION, "extensions": ["binary_tensor_data"]})


class ModelMetadata(BaseModel):
    name: str = MODEL
    versions: list[str] = [MODEL_VERSION]
    platform: str
    inputs: list[TensorMetadata] = [TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, SIDE_PX, SIDE_PX, 1])]
    outputs: list[TensorMetadata] = [TensorMetadata(name=OUTPUT, datatype="FP32", shape=[-1, 10])]

    model_config = with_example(
        {
            "name": MODEL,
            "versions": [MODEL_VERSION],
            "platform": "keras",
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, SIDE_PX, SIDE_PX, 1]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 10]}],
        }
    )


class Live(BaseModel):
    live: Literal[True] = True

    model_config = with_example({"live": True})


class IsReady(BaseModel):
    ready: Literal[True] = True

    model_config = with_example({"ready": True})
