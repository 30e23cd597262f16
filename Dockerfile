FROM python:3.13-slim AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv


FROM tools AS keras-environment
COPY requirements/runtime.txt /tmp/runtime.txt
# TensorFlow's C++ headers and libclang, 330 MB, are only needed to compile custom kernels.
RUN pip --python /opt/venv/bin/python install --quiet --no-deps --require-hashes --only-binary :all: -r /tmp/runtime.txt \
 && rm -r /opt/venv/lib/python3.13/site-packages/tensorflow/include /opt/venv/lib/python3.13/site-packages/clang


FROM tools AS litert-environment
COPY requirements/litert.txt /tmp/litert.txt
RUN pip --python /opt/venv/bin/python install --quiet --no-deps --require-hashes --only-binary :all: -r /tmp/litert.txt
# A sixth of it is only needed to convert or compile models, use GPUs, compile Fortran, test NumPy, check types or serve
# ReDoc. Not every platform's wheel has all of these files, so -f.
RUN cd /opt/venv/lib/python3.13/site-packages \
 && rm -rf ai_edge_litert/aot ai_edge_litert/tools ai_edge_litert/vendors ai_edge_litert/libLiteRtWebGpuAccelerator.so \
           fastapi_offline/static/redoc.standalone.js google ml_dtypes numpy/f2py tqdm \
 && find . -name tests -prune -exec rm -r {} + \
 && find . -name "*.pyi" -delete


FROM tools AS application
COPY app /srv/app
# Compile bytecode now, since the root filesystem may be read-only; unchecked, since sources in an image do not change.
RUN python -m compileall -q --invalidation-mode unchecked-hash /srv/app


FROM python:3.13-slim AS service
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DIGITS_HOST=0.0.0.0 \
    DIGITS_PORT=8000
WORKDIR /srv
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-c", \
  "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['DIGITS_PORT'] + '/readyz', timeout=2)"]
CMD ["python", "-m", "app"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="digits" \
      org.opencontainers.image.description="Reads handwritten digits: an image in, ten calibrated probabilities out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.created=$CREATED


FROM service AS slim
ENV DIGITS_ENGINE=litert
COPY --from=litert-environment /opt/venv /opt/venv
COPY --from=application /srv/app app
COPY models/digits.json models/digits.tflite models/digits-int8.tflite models/


# The last target is the default.
FROM service AS keras
# TensorFlow needs a temporary directory even to be imported; a read-only container still has /dev/shm.
ENV TMPDIR=/dev/shm
COPY --from=keras-environment /opt/venv /opt/venv
COPY --from=application /srv/app app
COPY models models
