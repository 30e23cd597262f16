"""`python tests/kserve_client.py URL IMAGE INK`: prints what kserve's client gets, as one JSON object.

IMAGE: a file. INK: a .npy file, float32 (n, 28, 28, 1).
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from numpy.typing import NDArray

MODEL = "digits"


async def main(url: str, image: bytes, array: NDArray[np.float32]) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    answers: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, MODEL),
    }
    file = InferInput("images", [1], "BYTES")
    file.set_data_from_numpy(np.array([image], object), binary_data=True)
    for name, binary in (("FP32", False), ("FP32, binary", True), ("BYTES, binary", True)):
        given = file
        if name.startswith("FP32"):
            given = InferInput("images", list(array.shape), "FP32")
            given.set_data_from_numpy(array, binary_data=binary)
        answer = await client.infer(url, InferRequest(MODEL, [given]), model_name=MODEL)
        answers[name] = answer.outputs[0].as_numpy().tolist()
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), np.load(sys.argv[3])))
