# llmos on an NVIDIA GPU. Build it in the root of the tree:  docker build -f docker/cuda.Dockerfile -t llmos:cuda .
# CUDA's libraries come with torch; the machine has the driver and NVIDIA's container toolkit.
# How to run it: docs/running.md, Containers.
FROM python:3.12-slim-bookworm AS build

ARG TORCH_INDEX=https://pypi.org/simple
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# The compiler is for the loops of llmos/nn/cpu/kernels.c alone; the last stage has none.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/llmos \
    && /opt/llmos/bin/pip install --index-url "$TORCH_INDEX" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY llmos ./llmos
RUN /opt/llmos/bin/pip install --constraint constraints.txt .

# One library for each kind of processor: the image may run on another machine than it was built on.
COPY docker/compile_loops.py /opt/
RUN /opt/llmos/bin/python /opt/compile_loops.py

FROM python:3.12-slim-bookworm

# libgomp: the compiled loops are parallel by OpenMP.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 llmos \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/llmos --create-home llmos \
    && chmod 0700 /var/lib/llmos
COPY --from=build /opt/llmos /opt/llmos

ENV PATH=/opt/llmos/bin:$PATH \
    LLMOS_HOME=/var/lib/llmos \
    LLMOS_HOST=0.0.0.0 \
    LLMOS_RESUME_AT_START=true \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/llmos
VOLUME /var/lib/llmos
EXPOSE 8600
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8600/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "llmos.daemon"]
