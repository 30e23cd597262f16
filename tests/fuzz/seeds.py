"""What mutation starts from: small files of every format, forms, and requests of the dialects."""

import base64
import json

import numpy as np
from PIL import Image

from tests.drawings import FORMATS, digit_drawn, encoded, enlarged, transparent, turned
from tests.hostile import odd

BOUNDARY = "frontier"

_SEVEN = digit_drawn(7)
_RGBA = transparent(_SEVEN, (0, 0, 0))
_BASE64 = base64.b64encode(encoded(_SEVEN)).decode()

PICTURES = [
    *(encoded(_SEVEN, kind) for kind in FORMATS),
    *(encoded(Image.fromarray(_SEVEN).convert("RGB"), kind) for kind in FORMATS),
    *(turned(_SEVEN, 6, kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "HEIC", "AVIF")),
    *(encoded(_RGBA, kind) for kind in ("PNG", "WEBP", "TIFF", "HEIC", "AVIF")),
    *(encoded(_RGBA.convert("LA"), kind) for kind in ("PNG", "TIFF")),
    *(encoded(Image.fromarray(_SEVEN).convert("1"), kind) for kind in ("PNG", "BMP", "TIFF", "GIF")),
    *(encoded(Image.fromarray(_SEVEN).convert("P"), kind) for kind in ("PNG", "BMP", "TIFF", "GIF")),
    *(encoded(Image.fromarray(_SEVEN).convert("CMYK"), kind) for kind in ("JPEG", "TIFF")),
    *(encoded(_SEVEN, "TIFF", compression=how) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd")),
    *(
        encoded(_SEVEN, kind, save_all=True, append_images=[Image.new("L", (28, 28))])
        for kind in ("PNG", "GIF", "WEBP", "HEIC", "AVIF")
    ),
    encoded(_SEVEN.astype(np.uint16) * 257),
    encoded(_SEVEN.astype(np.uint16) * 257, "TIFF"),
    encoded(_SEVEN.astype(np.float32), "TIFF"),
    encoded(_SEVEN.astype(np.int32), "TIFF"),
    encoded(_SEVEN, "JPEG", progressive=True),
    encoded(_SEVEN, "WEBP", lossless=True),
    encoded(_SEVEN, "JPEG", restart_marker_blocks=2),
    *(data for data in odd().values() if len(data) < 4096),  # the largest that mutation makes
    *(encoded(_SEVEN, kind)[:-1] for kind in ("PNG", "JPEG", "GIF")),
    encoded(enlarged(_SEVEN, 100), "HEIC", tile_size=64),
]


def _form(*parts: bytes) -> bytes:
    return b"".join(b"--frontier\r\n" + part + b"\r\n" for part in parts) + b"--frontier--\r\n"


FORMS = [
    b"\0" + _form(b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + encoded(_SEVEN)),
    b"\0" + _form(b'content-disposition: form-data; name="file"\r\nContent-Type: image/png\r\n\r\nx', b"\r\n"),
    b"\0" + _form(b"Content-Disposition: form-data; filename*=UTF-8''%e2%82%ac; name=file\r\n\r\nx"),
    b"\1" + json.dumps({"image": _BASE64}).encode(),
    b"\1" + json.dumps({"image": "data:image/png;base64," + _BASE64}).encode(),
    b"\2frontier" + _form(b'Content-Disposition: form-data; name="file"\r\n\r\nx'),
]

_ROWS = (_SEVEN / 255).round(1).tolist()
_IMAGES = {"name": "images", "datatype": "FP32", "shape": [1, 28, 28, 1]}
_BYTES = {"name": "images", "datatype": "BYTES", "shape": [1]}
_BINARY = {**_BYTES, "parameters": {"binary_data_size": 5}}

TENSORS = [
    b"\0" + json.dumps({"instances": [_ROWS]}).encode(),
    b"\0" + json.dumps({"instances": [{"b64": _BASE64}]}).encode(),
    b"\0" + json.dumps({"signature_name": "serving_default", "inputs": {"images": [_ROWS]}}).encode(),
    b"\1" + json.dumps({"id": "1", "inputs": [{**_IMAGES, "data": _ROWS}]}).encode(),
    b"\1" + json.dumps({"inputs": [{**_BYTES, "data": [_BASE64]}], "outputs": [{"name": "probabilities"}]}).encode(),
    b"\x81" + json.dumps({"inputs": [_BINARY]}).encode().ljust(129 * 4) + b"\1\0\0\0x",
]
