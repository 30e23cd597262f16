"""The tensors of the Open Inference Protocol, in JSON and in Triton's binary extension. Knows nothing about HTTP.

Source: KServe's "Predict Protocol - Version 2" and Triton's "Binary Tensor Data Extension".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from app.api.dialects.common import check_count, encoded_image, ink, numbers, parse
from app.api.dialects.schemas import INPUT, MODEL, MODEL_VERSION, OUTPUT, InferInput, InferRequest
from app.errors import BadRequest, InvalidParameter
from app.imaging.preprocess import SIDE_PX, Ink

JSON_LENGTH = "Inference-Header-Content-Length"
_IMAGE_BYTES = SIDE_PX * SIDE_PX * 4


def read_request(body: bytes, json_length: str | None, max_images: int) -> tuple[InferRequest, bool, list[bytes | Ink]]:
    """The request, whether its answer is to be binary, its images. Raises BadRequest, InvalidParameter, TooLarge."""
    request, binary = _split(body, json_length, max_images)
    return request, _wants_binary(request), _images(request.inputs[0], binary, max_images)


def write_answer(
    request: InferRequest, rows: Sequence[tuple[float, ...]], *, as_binary: bool
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON if a binary tensor follows."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [len(rows), 10]}
    content = {"model_name": MODEL, "model_version": MODEL_VERSION, "outputs": [output]}
    if request.id is not None:
        content["id"] = request.id
    if not as_binary:
        output["data"] = [probability for row in rows for probability in row]
        return to_json(content), None
    tensor = np.array(rows, "<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(tensor)}
    header = to_json(content)
    return header + tensor, len(header)


def _split(body: bytes, json_length: str | None, max_images: int) -> tuple[InferRequest, bytes]:
    """The request, and the binary tensor after its JSON. Raises BadRequest, InvalidParameter, TooLarge."""
    if json_length is None:
        return parse(body, InferRequest, max_images), b""
    length = int(json_length) if json_length.isdecimal() and len(json_length) <= 20 else -1
    if not 0 <= length <= len(body):
        raise BadRequest(f"{JSON_LENGTH} is not the length of the JSON at the body's start.")
    if length > 0:
        return parse(body[:length], InferRequest, max_images), body[length:]
    # no JSON at all: Triton's raw binary request
    tensor = InferInput(
        name=INPUT,
        datatype="FP32",
        shape=[len(body) // _IMAGE_BYTES, SIDE_PX, SIDE_PX, 1],
        parameters={"binary_data_size": len(body)},
    )
    return InferRequest(inputs=[tensor], parameters={"binary_data_output": True}), body


def _wants_binary(request: InferRequest) -> bool:
    """Whether the output is to be binary. Raises InvalidParameter."""
    wanted = request.parameters.get("binary_data_output", False)
    for output in request.outputs or []:
        _refuse_extensions(output.parameters)
        wanted = output.parameters.get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise InvalidParameter("'binary_data' and 'binary_data_output' are true or false.")
    return wanted


def _refuse_extensions(parameters: dict[str, object]) -> None:
    for extension in ("classification", "shared_memory_region"):
        if extension in parameters:
            raise InvalidParameter(f"The extension '{extension}' is not supported: see /v2 for those that are.")


def _images(tensor: InferInput, binary: bytes, max_images: int) -> list[bytes | Ink]:
    """The images of the input. Raises BadRequest, InvalidParameter, TooLarge."""
    _refuse_extensions(tensor.parameters)
    tails = {"FP32": [[SIDE_PX, SIDE_PX, 1]], "BYTES": [[], [1]]}[tensor.datatype]  # MLServer's codecs send [n, 1]
    if tensor.shape[1:] not in tails:
        raise InvalidParameter(f"'{INPUT}' has shape {[-1, *tails[0]]} for {tensor.datatype}.")
    count = tensor.shape[0]
    check_count(count, max_images)
    size = tensor.parameters.get("binary_data_size")
    if size is None and not binary:
        return _from_json(tensor, count)
    if type(size) is not int or size != len(binary) or tensor.data is not None:
        raise InvalidParameter(f"{len(binary)} bytes follow the JSON: give that as 'binary_data_size', without 'data'.")
    return _inks(binary, count) if tensor.datatype == "FP32" else _elements(binary, count)


def _from_json(tensor: InferInput, count: int) -> list[bytes | Ink]:
    if tensor.datatype == "BYTES":
        texts = tensor.data
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) != count:
            raise InvalidParameter(f"'data' is not a list of base64 strings, {count} as 'shape' says.")
        return [encoded_image(text, index) for index, text in enumerate(texts)]
    array = numbers(tensor.data)
    if array is None or array.size != count * SIDE_PX * SIDE_PX:
        raise InvalidParameter(f"'data' is not a list of numbers, {count} * 28 * 28 * 1 as 'shape' says.")
    return [ink(image, index) for index, image in enumerate(array.reshape(count, -1))]


def _inks(binary: bytes, count: int) -> list[bytes | Ink]:
    if len(binary) != count * _IMAGE_BYTES:
        raise InvalidParameter(f"'shape' needs {count * _IMAGE_BYTES} bytes, but {len(binary)} came.")
    return [ink(image, index) for index, image in enumerate(np.frombuffer(binary, "<f4").reshape(count, -1))]


def _elements(binary: bytes, count: int) -> list[bytes | Ink]:
    """The elements of a BYTES tensor, each after its length in four bytes, little-endian."""
    found: list[bytes | Ink] = []
    start = 0
    for _ in range(count):
        begin = start + 4
        start = begin + int.from_bytes(binary[start:begin], "little")
        found.append(binary[begin:start])
    if start != len(binary):
        raise InvalidParameter(f"The {len(binary)} bytes are not {count} elements, each after its length.")
    return found
