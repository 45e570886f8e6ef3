# One image for every process of Stint; compose.yaml has the command of each.
ARG BASE=python:3.12-slim
FROM ${BASE} AS packages
COPY requirements.lock /
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes --no-deps \
        -r /requirements.lock \
    # what only tests, checks and ./stint bench use: tests/deploy/test_image.py
    && pip --python /opt/venv/bin/python uninstall --yes --quiet \
        annotated-doc ast-serialize axe-playwright-python blinker charset-normalizer execnet fastapi flask flask-cors \
        graphql-core greenlet harfile hypothesis hypothesis-graphql iniconfig itsdangerous joserfc jsonschema-rs librt \
        moto mypy mypy-extensions opentelemetry-api pathspec pglast playwright pluggy pyrate-limiter pytest \
        pytest-timeout pytest-xdist requests responses ruff schemathesis sortedcontainers starlette uv werkzeug \
        xmltodict
# Compiled here, since no process can write to the image; without times and random order, and (-f) also what pip has compiled
# with times, so that the same lock gives the same files. Some packages contain files for other versions of Python, which do
# not compile here.
RUN PYTHONHASHSEED=0 python -m compileall -q -f -j0 --invalidation-mode unchecked-hash /opt/venv/lib || true

FROM ${BASE}
RUN useradd --system --no-create-home --shell /usr/sbin/nologin stint \
    && install -d -o stint -m 700 /mail
COPY --from=packages /opt/venv /opt/venv
WORKDIR /stint
COPY schemas schemas
COPY api api
COPY actors actors
COPY ops ops
RUN PYTHONHASHSEED=0 python -m compileall -q -f -j0 --invalidation-mode unchecked-hash schemas api actors ops \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip*
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/stint PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER stint
EXPOSE 8000
CMD ["python", "-m", "ops.cli", "api", "--processes", "2", "--host", "0.0.0.0", "--port", "8000"]
