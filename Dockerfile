# One image, N containers: the command says which services run (`collector binance`, `api`; none: all of them).

FROM python:3.13-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /bin/
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
RUN uv venv /opt/kurs --python /usr/local/bin/python
WORKDIR /app
COPY pyproject.toml requirements.txt ./
# pyproject.toml names what runs, without `dev`; requirements.txt pins it, and refuses a file whose hash it does not hold.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/kurs --only-binary :all: --require-hashes -c requirements.txt -r pyproject.toml \
    && rm pyproject.toml requirements.txt
COPY migrations migrations
COPY services services
# Where it runs nothing can be written: what can be compiled is compiled now.
RUN /opt/kurs/bin/python -m compileall -q services migrations

FROM python:3.13-slim
RUN groupadd --gid 10001 kurs \
    && useradd --uid 10001 --gid kurs --no-create-home --shell /usr/sbin/nologin kurs \
    && install -d -o kurs -g kurs /data
COPY --from=build /opt/kurs /opt/kurs
COPY --from=build /app /app
ENV PATH=/opt/kurs/bin:$PATH PYTHONUNBUFFERED=1 \
    KURS_HOST=0.0.0.0 KURS_PORT=8000 KURS_DATA_DIR=/data KURS_MARKET=live
WORKDIR /app
USER kurs
EXPOSE 8000
# /readyz over a bare socket: an HTTP library would make each check cost five times as much. Who answers nothing is ended.
HEALTHCHECK --interval=5s --timeout=30s --retries=3 --start-period=120s CMD ["python", "-IS", "services/healthcheck.py"]
ENTRYPOINT ["python", "-m", "services"]
