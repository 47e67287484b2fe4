# The images of Serinus: predictor, operator, pipeline (docs/reference/images.md).
#   docker build --target predictor -t serinus/predictor:dev .
# BASE: Debian with Python 3.11. Pin it by digest where builds must repeat.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# --- What libraries need of the system: LightGBM's OpenMP.
FROM ${BASE} AS system
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*

# --- What all three run on: a user that is a number, and nothing written outside /tmp. /opt/serinus/made keeps how an
# environment was made: its lock, the scripts, and what they removed.
FROM system AS runtime
RUN groupadd --gid 65532 serinus \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin serinus
ENV PATH=/app/bin:/opt/serinus/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app HOME=/tmp LOGNAME=serinus \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.vendor="Serinus" org.opencontainers.image.licenses="Apache-2.0"
COPY images/environment images/diet.py images/compiled.py /opt/serinus/made/
WORKDIR /app

# --- The code, compiled. It comes last in each image, so that a change of it makes one small layer anew.
FROM runtime AS code
COPY serinus /app/serinus
RUN python3 /opt/serinus/made/compiled.py /app

FROM code AS project
COPY components /app/components
COPY pipelines /app/pipelines
RUN python3 /opt/serinus/made/compiled.py /app
COPY problems /app/problems
COPY feature_repo /app/feature_repo
COPY serinus.toml /app/
COPY images/serinus /app/bin/serinus

# --- Serves one model version.
FROM runtime AS predictor-environment
COPY requirements/predictor.lock /opt/serinus/made/lock
RUN PIP_ONLY_BINARY=:all: /opt/serinus/made/environment \
      kserve kserve.protocol.grpc.server uvicorn.protocols.http.httptools_impl uvicorn.lifespan.on \
      lightgbm scipy.special redis hiredis mmh3 orjson psutil

FROM predictor-environment AS predictor
LABEL org.opencontainers.image.title="serinus predictor" \
      org.opencontainers.image.description="Serves one model version: KServe's protocols, Feast's online layout"
COPY --from=code /app /app
USER 65532:65532
# It starts: without settings it says so and ends with 2.
RUN python -m serinus.wiring.serve '{}' 2>/dev/null; test $? = 2
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "serinus.wiring.serve"]

# --- Collects outcomes and exposures.
FROM runtime AS operator-environment
COPY requirements/operator.lock /opt/serinus/made/lock
RUN PIP_ONLY_BINARY=:all: /opt/serinus/made/environment \
      fastapi uvicorn.protocols.http.httptools_impl uvicorn.lifespan.on kubernetes prometheus_client \
      pyarrow.parquet pyarrow.compute pyarrow.dataset scipy.special redis hiredis orjson psutil yaml

FROM operator-environment AS operator
LABEL org.opencontainers.image.title="serinus operator" \
      org.opencontainers.image.description="Collects outcomes and exposures into the event log"
COPY --from=code /app /app
USER 65532:65532
RUN python -m serinus.wiring.collect '{}' 2>/dev/null; test $? = 2
EXPOSE 8090
ENTRYPOINT ["python", "-m", "serinus.wiring.collect"]

# --- The one image of all KFP components (components/image.py), and the command line in a cluster. KFP comes as source
# without compiled parts.
FROM runtime AS pipeline-environment
COPY requirements/pipeline.lock /opt/serinus/made/lock
RUN /opt/serinus/made/environment

FROM pipeline-environment AS pipeline
LABEL org.opencontainers.image.title="serinus pipeline" \
      org.opencontainers.image.description="Runs pipeline components and the command line"
COPY --from=project /app /app
ENV SERINUS_PROJECT=/app SERINUS_PROFILE=cluster
USER 65532:65532
RUN serinus problem check retail >/dev/null
ENTRYPOINT ["serinus"]
