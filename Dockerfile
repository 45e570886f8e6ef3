# One image for every process of Stint; compose.yaml has the command of each.
FROM python:3.12-slim AS packages
COPY requirements.lock /
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r /requirements.lock \
    && /opt/venv/bin/pip uninstall --yes --quiet playwright  # 165 MB that only tests use

FROM python:3.12-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin stint \
    && install -d -o stint -m 700 /mail
COPY --from=packages /opt/venv /opt/venv
WORKDIR /stint
COPY schemas schemas
COPY api api
COPY actors actors
COPY ops ops
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/stint PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER stint
EXPOSE 8000
CMD ["python", "-m", "ops.cli", "api", "--processes", "2", "--host", "0.0.0.0", "--port", "8000"]
