"""How tutorials serve a Keras model: FastAPI, Pillow and `model.predict`. `uvicorn benchmarks.textbook:app`."""

from io import BytesIO

import keras
import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

app = FastAPI()
model = keras.saving.load_model("models/digits.keras", compile=False)


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, int | list[float]]:
    image = Image.open(BytesIO(await file.read())).convert("L").resize((28, 28))
    logits = model.predict(np.asarray(image, np.float32).reshape(1, 28, 28, 1) / 255, verbose=0)[0, :10]
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return {"digit": int(probabilities.argmax()), "probabilities": [float(share) for share in probabilities]}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}
