# The bill of materials of an image of Stint, from what is in it: docs/deployment.md, "The image".
ARG BASE=python:3.12-slim
ARG IMAGE=stint
FROM ${BASE} AS tools
COPY requirements-deploy.lock /
RUN python -m venv --without-pip /tools \
    && pip --python /tools/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: -r /requirements-deploy.lock

FROM ${IMAGE} AS bill
COPY --from=tools /tools /tools
# reproducible: without its time and its random number
RUN /tools/bin/python -m cyclonedx_py environment --pyproject /stint/pyproject.toml --mc-type application \
        --output-reproducible --validate --output-file /tmp/stint.cdx.json /opt/venv/bin/python

FROM scratch
COPY --from=bill /tmp/stint.cdx.json /
