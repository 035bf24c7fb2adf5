# The engine, with two targets: cpu (the default) and cuda, whose torch brings its CUDA libraries along.
#
#   docker build -t refstar-engine:cpu .
#   docker build -t refstar-engine:cuda --target cuda .
#
# What the engine needs is a layer of its own, so that a change of the code moves megabytes, not gigabytes.

FROM python:3.12-slim AS base
ARG VERSION=0
ENV SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 refstar \
    && install --directory --owner refstar --mode 0755 /refstar-home /refstar-home/images
WORKDIR /opt/refstar-engine
COPY constraints.txt pyproject.toml README.md LICENSE ./

FROM base AS cuda-packages
RUN pip install -c constraints.txt '.[postgres]' && pip install --no-deps -c constraints.txt mediapipe

FROM base AS cpu-packages
# torch for processors is a quarter of the size
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[postgres,openvino]' \
    && pip install --no-deps -c constraints.txt mediapipe

FROM cuda-packages AS cuda
COPY . .
RUN pip install --no-deps --force-reinstall .
USER refstar
ENTRYPOINT ["engine"]
CMD ["status"]

FROM cpu-packages AS cpu
COPY . .
RUN pip install --no-deps --force-reinstall .
USER refstar
ENTRYPOINT ["engine"]
CMD ["status"]
