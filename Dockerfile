# syntax=docker/dockerfile:1
# JudgeLM with everything it needs:
#   docker build -t judgelm:cpu .
#   docker build -t judgelm:cuda --build-arg DEVICE=cuda .
#   docker build -t judgelm-ray:cuda --build-arg DEVICE=cuda --target ray .
# docs/deploy.md says how it is run, and what of this has been tried.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY judgelm judgelm
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON} AS installed
# cpu or cuda: the usual torch brings CUDA's libraries with it, which are most of the image
ARG DEVICE=cpu
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
# torch alone comes from its own index, which has not all versions of what it needs; that comes with the rest;
# the image's setuptools would run an old setup.py of a dependency's in this environment (--use-pep517)
RUN if [ "$DEVICE" = cpu ]; then \
      pip install --no-cache-dir --no-deps --constraint /tmp/constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch; \
    fi && \
    pip install --no-cache-dir --use-pep517 --constraint /tmp/constraints.txt /tmp/wheels/*.whl
RUN useradd --uid 1000 --create-home judgelm && install -d -o judgelm -g judgelm /data
# models, converted models, logs and votes stand in one volume
ENV HF_HOME=/data/huggingface JUDGELM_CACHE=/data/cache PYTHONUNBUFFERED=1
WORKDIR /data
VOLUME /data

# what Ray's clusters on Kubernetes ask of an image: the command `ray`, its dashboard, and wget for their probes
FROM installed AS ray
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "ray[default]"
USER 1000

FROM installed AS judgelm
USER 1000
EXPOSE 7860 21003
ENTRYPOINT ["judgelm"]
CMD ["serve", "--host", "0.0.0.0"]
