# `--build-arg VARIANT=gpu` adds CUDA's libraries to the CPU image; BASE_IMAGE has Python 3.11 and apt.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG VARIANT=cpu
ARG SOURCE_DATE_EPOCH
WORKDIR /src
COPY requirements/build.txt requirements/${VARIANT}.txt requirements/
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement requirements/build.txt \
 && python3 -m venv --without-pip /opt/thaw \
 && /opt/build/bin/pip --python /opt/thaw/bin/python install --no-cache-dir --no-compile --only-binary :all: \
        --require-hashes --requirement "requirements/${VARIANT}.txt"
COPY pyproject.toml README.md ./
COPY job/ job/
COPY k8s/ k8s/
# Bytecode is compiled here, since the root file system is read-only where this runs; it names no times.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/thaw/bin/python install --no-cache-dir --no-compile --no-deps --no-index /wheels/*.whl \
# TensorFlow's headers, a seventh of the image, are for those who compile; libraries' own tests and Ray's Java for others.
 && rm -rf /opt/thaw/lib/python3*/site-packages/tensorflow/include /opt/thaw/lib/python3*/site-packages/ray/jars \
 && find /opt/thaw/lib/python3*/site-packages -type d -name tests -prune -exec rm -rf {} + \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/thaw/sbom.cdx.json /opt/thaw/bin/python \
 && /opt/thaw/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/thaw/lib \
 && find /opt/thaw -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH:-$(date +%s)}" {} +

FROM ${BASE_IMAGE}
ARG VARIANT=cpu
ARG VERSION=unknown
ARG REVISION=unknown
# useradd reads it for the day in /etc/shadow; the engine takes it for the image's own times.
ARG SOURCE_DATE_EPOCH
LABEL org.opencontainers.image.title="Thaw" \
      org.opencontainers.image.description="Transfer learning as a job, on Ray and Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      thaw.variant="${VARIANT}"
# KubeRay's probes call wget, and it starts Ray in bash. What Debian's archive has is newer than any version pinned here.
# Python's own images come with pip and what it builds with, which /opt/thaw does not use.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bash ca-certificates wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3*/ensurepip \
        /usr/local/lib/python3*/site-packages/* \
 && groupadd --gid 1000 thaw \
 && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home --shell /bin/bash thaw
COPY --from=build /opt/thaw /opt/thaw
# All that is written goes to /tmp (Ray, home) and /cache (weights, features): mount both.
ENV PATH=/opt/thaw/bin:$PATH \
    HOME=/tmp \
    THAW_CACHE=/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["thaw"]
CMD ["--help"]
