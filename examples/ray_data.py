"""Read pictures in a Ray Data pipeline: `python examples/ray_data.py 's3://bucket/in' s3://bucket/out ACTORS`."""

import sys

import ray

from app.scan.reading import ReadDigits

source, target, actors = sys.argv[1:]  # fewer actors than CPUs: reading and writing need some as well
pictures = ray.data.read_parquet(source)  # with the encoded images in a column `bytes`
readings = pictures.map_batches(
    ReadDigits,
    batch_format="pyarrow",
    batch_size=256,
    compute=ray.data.ActorPoolStrategy(size=int(actors)),
)
readings.drop_columns(["bytes", "crop"]).write_parquet(target)
