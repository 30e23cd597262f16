"""Read pictures in a Ray Data pipeline: `python examples/ray_data.py 's3://bucket/*.parquet' s3://bucket/read`."""

import sys

import ray

from app.scan.reading import ReadDigits

pictures = ray.data.read_parquet(sys.argv[1])  # with the encoded images in a column `bytes`
readings = pictures.map_batches(
    ReadDigits,
    batch_format="pyarrow",
    batch_size=256,
    num_cpus=1,
    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8),
)
readings.drop_columns(["bytes", "crop"]).write_parquet(sys.argv[2])
