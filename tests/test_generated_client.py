"""A client that openapi-python-client makes of the service's own description, asked for predictions."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.drawings import digit_drawn, encoded

GENERATE_S, ASK_S = 60, 30  # on a busy machine; it takes 2 s and 1 s

# What a stranger would write with the client: the three ways of `POST /predict`, a batch, the card, and an error.
_ASKING = """
import base64, io, sys
from generated import Client
from generated.api.operations import model
from generated.api.predict import predict, predict_batch
from generated.models import ImageBody, PredictBatchBody, PredictFilesBody, Problem
from generated.types import File

url, path = sys.argv[1:]
data = open(path, "rb").read()
file = lambda: File(payload=io.BytesIO(data), file_name="digit.png", mime_type="image/png")
client = Client(base_url=url, raise_on_unexpected_status=True)
print("multipart", predict.sync(client=client, body=PredictFilesBody(file=file())).digit)
print("json", predict.sync(client=client, body=ImageBody(image=base64.b64encode(data).decode()), top_k=2).top[0].digit)
print("raw", predict.sync(client=client, body=file(), explain=True).explanation.ink_box.height)
answers = predict_batch.sync(client=client, body=PredictBatchBody(files=[file(), file()]))
print("batch", [entry.prediction.digit for entry in answers.predictions])
print("model", model.sync(client=client).name)
problem = predict.sync(client=client, body=ImageBody(image="***"))
print("problem", isinstance(problem, Problem), problem.code)
"""


@pytest.mark.slow
def test_a_generated_client_asks_in_every_way(url: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(encoded(digit_drawn(4)))
    generator = "from openapi_python_client.cli import app; app()"
    out = ["--meta", "none", "--output-path", "generated"]
    generated = subprocess.run(
        [sys.executable, "-c", generator, "generate", "--url", f"{url}/openapi.json", *out],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=GENERATE_S,
    )
    # it knows no content type with an asterisk; everything else is in the client
    assert (generated.stderr.count("WARNING"), generated.stderr.count("Unsupported content type image/*")) == (2, 2)

    asked = subprocess.run(
        [sys.executable, "-c", _ASKING, url, str(picture)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=ASK_S,
    )

    assert asked.stderr == ""
    assert asked.stdout.splitlines() == [
        "multipart 4",
        "json 4",
        "raw 20",
        "batch [4, 4]",
        "model digits",
        "problem True bad_request",
    ]
