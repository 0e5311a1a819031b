# The server of `alexnet serve` on the CPU, as an image: docs/deploy/index.md.
#
#     docker build -t alexnet .
#     docker run -p 127.0.0.1:8000:8000 alexnet                               # the network in the package
#     docker run -p 127.0.0.1:8000:8000 -v ./runs:/model:ro alexnet /model/mine
#
# tests/integration/test_container.py lints this file, and runs its commands without a container engine.

# The version that the tests run on.
FROM python:3.11-slim-trixie AS build

# The compiler of the native kernels. It stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/alexnet/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/alexnet

WORKDIR /src
COPY constraints.txt ./
# Before the package, so that a change of the package does not download torch again. This index has the build for the
# CPU; --build-arg TORCH_INDEX=URL names another one, such as a mirror, and an empty URL the one of pip's configuration.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch

COPY pyproject.toml README.md LICENSE MANIFEST.in ./
COPY native native
COPY src src
RUN pip install -c constraints.txt '.[serve]' && pip check


FROM python:3.11-slim-trixie

# The OpenMP runtime of the native kernels.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*

COPY --from=build /opt/alexnet /opt/alexnet

# The server writes nothing, except with --processes: metrics, in /tmp, which may be a tmpfs.
ENV PATH=/opt/alexnet/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 CMD ["python", "-c", "\
from http.client import HTTPConnection\n\
connection = HTTPConnection('127.0.0.1', 8000, timeout=2)\n\
connection.request('GET', '/ready')\n\
raise SystemExit(connection.getresponse().status != 200)"]

# Arguments of `docker run` are those of `alexnet serve`; without any, it serves the network in the package. The token is
# no part of the image: give ALEXNET_TOKEN, or ALEXNET_TOKEN_FILE.
ENTRYPOINT ["alexnet", "serve", "--host", "0.0.0.0", "--port", "8000"]
