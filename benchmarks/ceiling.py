"""The ceiling: FastAPI that takes the same uploads and does no work. `uvicorn benchmarks.ceiling:app`."""

from fastapi import FastAPI, Request, UploadFile

app = FastAPI()


@app.post("/multipart")
async def multipart(file: UploadFile) -> dict[str, int]:
    return {"bytes": len(await file.read())}


@app.post("/raw")
async def raw(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}
