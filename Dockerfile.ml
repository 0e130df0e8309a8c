# The loop in a container: `docker build -f Dockerfile.ml -t ml_pipeline .`
#
# The base may be another one, such as a digest: --build-arg BASE_IMAGE=python@sha256:…
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-image.lock ./
# The pins apart from the code, so that a change of code does not fetch them again; pip stays here.
# What applies the schema, serves the page and notifies people comes by the second file.
RUN python -m venv --without-pip /opt/ml_pipeline \
    && python -m pip --python /opt/ml_pipeline/bin/python install --require-hashes -r requirements.lock \
    && python -m pip --python /opt/ml_pipeline/bin/python install --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE model_config.yaml requirements.txt ./
COPY .github/workflows .github/workflows
COPY ml_pipeline ml_pipeline
# The libraries' own tests are nobody's need.
RUN python -m pip wheel --no-deps --wheel-dir dist . \
    && python -m pip --python /opt/ml_pipeline/bin/python install --no-deps dist/*.whl \
    && python -m pip --python /opt/ml_pipeline/bin/python check \
    && find /opt/ml_pipeline -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE_IMAGE}
COPY --from=build /opt/ml_pipeline /opt/ml_pipeline
RUN groupadd --gid 10001 ml_pipeline \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home ml_pipeline \
    && mkdir /data \
    && chown 10001:10001 /data
ENV PATH=/opt/ml_pipeline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=PASSIVE
# Everything that is written is written here (and into a temporary folder): the rest may be read-only.
WORKDIR /data
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["ml-pipeline", "doctor", "--quick"]
ENTRYPOINT ["ml-pipeline"]
CMD ["worker"]
