# The images of Serinus: predictor, operator, pipeline (docs/reference/images.md).
#   docker build --target predictor -t serinus/predictor:dev .
# BASE: Debian with Python 3.11. Pin it by digest where builds must repeat.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# --- What libraries need of the system: LightGBM's OpenMP.
FROM ${BASE} AS system
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*

# --- Environments are made here, each by one lock; pip and what it brings stay behind.
FROM system AS build
RUN python3 -m venv /build/pip && python3 -m venv --without-pip /opt/serinus
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY images/environment images/diet.py images/compiled.py /build/

FROM build AS predictor-libraries
COPY requirements/predictor.lock /build/
RUN PIP_ONLY_BINARY=:all: /build/environment /build/predictor.lock \
      kserve kserve.protocol.grpc.server uvicorn.protocols.http.httptools_impl uvicorn.lifespan.on \
      lightgbm scipy.special redis hiredis mmh3 orjson psutil

FROM build AS operator-libraries
COPY requirements/operator.lock /build/
RUN PIP_ONLY_BINARY=:all: /build/environment /build/operator.lock \
      fastapi uvicorn.protocols.http.httptools_impl uvicorn.lifespan.on kubernetes prometheus_client \
      pyarrow.parquet pyarrow.compute pyarrow.dataset scipy.special redis hiredis orjson psutil yaml

# KFP comes as source without compiled parts.
FROM build AS pipeline-libraries
COPY requirements/pipeline.lock /build/
RUN /build/environment /build/pipeline.lock

# --- The code, compiled like its libraries.
FROM build AS code
COPY serinus /app/serinus
RUN python3 /build/compiled.py /app

FROM code AS project
COPY components /app/components
COPY pipelines /app/pipelines
RUN python3 /build/compiled.py /app
COPY problems /app/problems
COPY feature_repo /app/feature_repo
COPY serinus.toml /app/
COPY images/serinus /app/bin/serinus

# --- What all three run on: no pip, a user that is a number, and nothing written outside /tmp.
FROM system AS runtime
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
      /usr/lib/python3.11/ensurepip /usr/share/python-wheels \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin serinus
ENV PATH=/app/bin:/opt/serinus/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app HOME=/tmp LOGNAME=serinus \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
LABEL org.opencontainers.image.vendor="Serinus" org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS predictor
LABEL org.opencontainers.image.title="serinus predictor" \
      org.opencontainers.image.description="Serves one model version: KServe's protocols, features from Feast's online layout"
COPY --from=predictor-libraries /opt/serinus /opt/serinus
COPY --from=code /app /app
# It starts: without settings it says so and ends with 2.
RUN python -m serinus.wiring.serve '{}' 2>/dev/null; test $? = 2
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "serinus.wiring.serve"]

FROM runtime AS operator
LABEL org.opencontainers.image.title="serinus operator" \
      org.opencontainers.image.description="Collects outcomes and exposures into the event log"
COPY --from=operator-libraries /opt/serinus /opt/serinus
COPY --from=code /app /app
RUN python -m serinus.wiring.collect '{}' 2>/dev/null; test $? = 2
EXPOSE 8090
ENTRYPOINT ["python", "-m", "serinus.wiring.collect"]

# The one image of all KFP components (components/image.py), and the command line in a cluster.
FROM runtime AS pipeline
LABEL org.opencontainers.image.title="serinus pipeline" \
      org.opencontainers.image.description="Runs pipeline components and the command line"
COPY --from=pipeline-libraries /opt/serinus /opt/serinus
COPY --from=project /app /app
ENV SERINUS_PROJECT=/app SERINUS_PROFILE=cluster
RUN serinus problem check retail >/dev/null
ENTRYPOINT ["serinus"]
