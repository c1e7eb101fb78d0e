# One image for the three programs: aggregator, example-apiserver, aggregator-pki.
# Builds with BuildKit and with the plain builder; the base may be any image that has python3 (3.11 or newer) with venv and pip.
ARG BASE_IMAGE=python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The environment holds no pip of its own: what runs in production needs none.
RUN python3 -m venv --without-pip /opt/venv && python3 -m venv /opt/build
COPY requirements-build.lock requirements.lock ./
RUN /opt/build/bin/python -m pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/python -m pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY . .
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /tmp/wheel . \
 && /opt/build/bin/python -m pip --python /opt/venv/bin/python install --no-deps --no-index /tmp/wheel/*.whl \
 && /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib \
 && /opt/build/bin/python -m pip --python /opt/venv/bin/python check

FROM ${BASE_IMAGE}
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="api-aggregator" \
      org.opencontainers.image.description="API aggregation layer in the Kubernetes style: aggregator, example API server and development PKI" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Files are compiled in the build stage; the root file system may be read-only.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    BUILD_COMMIT=${REVISION} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1 LANG=C.UTF-8
COPY --from=build /opt/venv /opt/venv
# A number, so that an orchestrator can see that it is not root.
USER 1000:1000
WORKDIR /
EXPOSE 6443 8080
STOPSIGNAL SIGTERM
CMD ["aggregator", "serve"]
