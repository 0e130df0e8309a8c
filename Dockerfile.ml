# The loop in a container: `docker build -f Dockerfile.ml -t ml_pipeline .`
#
# The base may be another one, such as a digest: --build-arg BASE_IMAGE=python@sha256:…
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt ./
COPY tests/requirements.txt tests/
# The pins apart from the code, so that a change of code does not fetch them again; pip stays here.
RUN grep -hv '^-e' requirements.txt tests/requirements.txt > pins.txt \
    && grep -v '^-e' requirements.txt > needed.txt \
    && python -m venv --without-pip /opt/ml_pipeline \
    && python -m pip --python /opt/ml_pipeline/bin/python install -r needed.txt
COPY pyproject.toml README.md LICENSE model_config.yaml ./
COPY .github/workflows .github/workflows
COPY ml_pipeline ml_pipeline
# With what applies the schema, what serves the page and what notifies people. The libraries' own tests are nobody's need.
RUN python -m pip wheel --no-deps --wheel-dir dist . \
    && wheel="$(echo dist/*.whl)" \
    && python -m pip --python /opt/ml_pipeline/bin/python install -c pins.txt "${wheel}[init,monitor,notify]" \
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
