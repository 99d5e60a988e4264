# AutoFlow with all that it runs: Python packages as Pipfile.lock has them, and from Debian what reports are made with.
# docs/how-to/container.md explains how to build and run it, docs/how-to/packages.md how to extend it.

# The Python packages, in a virtual environment that is copied into the image.
FROM python:3.11-slim-bookworm AS packages
COPY scripts/requirements.py Pipfile.lock /build/
# Compile everything now: a read-only image cannot do it later, and each kernel would compile its imports again. Leave
# out files whose names end with a newer version of Python, as in _typing_312.py: this one cannot compile them.
# Remove what nothing imports: tests, C sources, and the data that jedi needs for completion in an editor.
# constraints.txt keeps these versions when a derived image adds packages.
# With CLUSTER=true, the image has the packages for a cluster, too.
ARG CLUSTER=false
RUN case "$CLUSTER" in \
        true) sections=cluster ;; \
        false) sections= ;; \
        *) echo "CLUSTER is '$CLUSTER', neither true nor false" >&2; exit 1 ;; \
    esac \
    && python /build/requirements.py /build/Pipfile.lock $sections > /build/requirements.txt \
    && python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --no-compile --requirement /build/requirements.txt \
    && pip --python /opt/venv/bin/python check \
    && pip --python /opt/venv/bin/python freeze > /opt/venv/constraints.txt \
    && cd /opt/venv/lib/python3.11/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -type f -name '*.c' -delete \
    && rm -r jedi/third_party \
    && python -m compileall -q -x '_3(1[2-9]|[2-9][0-9])\.py$' --invalidation-mode unchecked-hash . \
    && rm /opt/venv/bin/activate* /opt/venv/bin/Activate.ps1

# AutoFlow's own files, readable by any user, regardless of the checkout's umask.
FROM python:3.11-slim-bookworm AS autoflow
COPY config /opt/autoflow/config
COPY autoflow /opt/autoflow/autoflow
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/autoflow \
    && chmod -R u=rwX,go=rX /opt/autoflow

FROM python:3.11-slim-bookworm
# The layers that change least come first. Leave out manuals, keep licences.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        -o Dpkg::Options::=--path-exclude=/usr/share/doc/* \
        -o Dpkg::Options::=--path-include=/usr/share/doc/*/copyright \
        -o Dpkg::Options::=--path-exclude=/usr/share/man/* \
        -o Dpkg::Options::=--path-exclude=/usr/share/ri/* \
        fonts-dejavu-core fonts-droid-fallback fonts-noto-core fonts-symbola pandoc poppler-utils ruby-asciidoctor-pdf tini \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/ldconfig/* /var/log/apt /var/log/*.log
# A new docker volume takes over the mode of its folder: any user may write to /mounts/prefect.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin --no-log-init autoflow \
    && install --directory /mounts/inputs \
    && install --directory --owner autoflow --group autoflow /mounts/outputs \
    && install --directory --mode 1777 /mounts/prefect
COPY --from=packages /opt/venv /opt/venv
COPY --from=autoflow /opt/autoflow /opt/autoflow
# JupyterLab in a derived image finds `check` and `skip` for notebooks in the last folder.
RUN printf '#!/bin/sh\nexec python -m autoflow "$@"\n' > /usr/local/bin/autoflow && chmod 755 /usr/local/bin/autoflow \
    && echo /opt/autoflow/autoflow/kernels/importable > /opt/venv/lib/python3.11/site-packages/autoflow.pth

# Programs write their own files to /tmp, because the rest of the image may be read-only and the user may have no name.
# PIP_* are for derived images: `pip install` adds packages, and does not change those that are here.
# `docker stop` waits only 10 s, so runs in progress get 3 s.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=autoflow \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_PYTHON=/opt/venv/bin/python \
    PIP_CONSTRAINT=/opt/venv/constraints.txt \
    AUTOFLOW_INPUTS_DIR=/mounts/inputs \
    AUTOFLOW_OUTPUTS_DIR=/mounts/outputs \
    AUTOFLOW_SHUTDOWN_GRACE=3 \
    AUTOFLOW_METRICS_HOST=0.0.0.0 \
    PREFECT_SERVER_API_HOST=0.0.0.0 \
    PREFECT_UI_STATIC_DIRECTORY=/tmp/prefect-ui

WORKDIR /opt/autoflow
USER 1000:1000
# Prefect's UI, if AutoFlow runs its own Prefect server.
EXPOSE 4200
# Fails only if a restart helps; `autoflow health` reports everything that needs attention.
# The first start creates Prefect's database, which takes long on a slow disk.
HEALTHCHECK --interval=1m --timeout=30s --start-period=3m --retries=3 CMD ["autoflow", "health", "--live"]
# -s: reap child processes even if tini is not process 1.
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "python", "-m", "autoflow"]

ARG VERSION=0.1.0
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="AutoFlow" \
    org.opencontainers.image.description="Runs workflows of Jupyter notebooks for each new date of data that FlowAPI has." \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.source="$SOURCE"
