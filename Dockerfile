# One image, N containers: the command says which services run (`kurs collector binance`, `kurs api`; `kurs`: all of them).

FROM python:3.13-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /bin/
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN uv venv /opt/kurs --python /usr/local/bin/python
WORKDIR /app
COPY pyproject.toml requirements.txt requirements-dev.txt ./
# `parquet`: what `kurs export --format parquet` needs, 150 MB.
ARG EXTRAS=""
# pyproject.toml names what runs; requirements.txt pins it (requirements-dev.txt: and the extras, in the same versions), and a
# file without one of its hashes is refused.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/kurs --only-binary :all: --require-hashes -r pyproject.toml \
    -c "requirements${EXTRAS:+-dev}.txt" ${EXTRAS:+--extra "$EXTRAS"} && rm pyproject.toml requirements*.txt
RUN printf '#!/bin/sh\nPYTHONPATH=/app exec /opt/kurs/bin/python -P -m services "$@"\n' >/opt/kurs/bin/kurs \
    && chmod 755 /opt/kurs/bin/kurs
COPY migrations migrations
COPY services services

FROM python:3.13-slim
RUN groupadd --gid 10001 kurs \
    && useradd --uid 10001 --gid kurs --no-create-home --shell /usr/sbin/nologin kurs \
    && install -d -o kurs -g kurs /data
COPY --from=build /opt/kurs /opt/kurs
COPY --from=build /app /app
ENV PATH=/opt/kurs/bin:$PATH PYTHONUNBUFFERED=1 \
    KURS_HOST=0.0.0.0 KURS_PORT=8000 KURS_DATA_DIR=/data KURS_MARKET=live
WORKDIR /app
# Containers have a read-only disk, so each start would compile all imported modules again. They are compiled now, those of
# Python's library too, which its image has without bytecode. Compiling everything installed would take ten times as long.
RUN python -m compileall -q migrations services && python -c "import pkgutil, importlib, services; \
    import aiosqlite, httpcore, sqlalchemy.dialects.postgresql.asyncpg, uvicorn.lifespan.off; \
    [importlib.import_module(each.name) for each in pkgutil.walk_packages(services.__path__, 'services.')]"
USER kurs
EXPOSE 8000
# /readyz over a bare socket: with an HTTP library each check would cost five times as much. It ends a process that does not respond.
# A busy machine takes minutes to start everything, and an exchange may be silent for half a minute: that is not unhealthy.
HEALTHCHECK --interval=10s --timeout=30s --retries=6 --start-period=300s CMD ["python", "-IS", "services/healthcheck.py"]
CMD ["kurs"]
