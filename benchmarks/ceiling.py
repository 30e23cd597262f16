"""The ceiling: FastAPI that takes the same uploads and does no work, or only decodes.

`uvicorn benchmarks.ceiling:app`.
"""

import cv2
import numpy as np
from fastapi import FastAPI, Request, UploadFile

app = FastAPI()
cv2.setNumThreads(1)


@app.post("/multipart")
async def multipart(file: UploadFile) -> dict[str, int]:
    return {"bytes": len(await file.read())}


@app.post("/raw")
async def raw(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@app.post("/decoded")
def decoded(file: UploadFile) -> dict[str, int]:  # not async: FastAPI decodes on several threads
    picture = cv2.imdecode(np.frombuffer(file.file.read(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return {"ink": int(cv2.resize(picture, (28, 28), interpolation=cv2.INTER_AREA).sum())}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}
