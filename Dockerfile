# One image for each service: docker build --build-arg SERVICE=recorder .

# A service with browser assets has an install-assets; the others pass through.
FROM node:22-slim AS assets
ARG SERVICE
WORKDIR /src/services/${SERVICE}
COPY services/${SERVICE}/pyproject.toml services/${SERVICE}/package*.json \
     services/${SERVICE}/.npmrc* services/${SERVICE}/install-assets* ./
RUN if [ -x install-assets ]; then ./install-assets; fi && mkdir -p src

# The wheels of library and service, built by the hash-checked tools of build.lock.
FROM python:3.13-slim AS wheels
ARG SERVICE
WORKDIR /src
COPY build.lock ./
RUN python -m venv /tools && /tools/bin/pip install --no-cache-dir --require-hashes -r build.lock
COPY libs/sunmesh libs/sunmesh
COPY services/${SERVICE} services/${SERVICE}
COPY --from=assets /src/services/${SERVICE}/src services/${SERVICE}/src
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels \
    ./libs/sunmesh ./services/${SERVICE}

# Only the service's own lock and these two wheels, so that a service which borrows another's
# dependency fails here.
FROM python:3.13-slim AS installed
ARG SERVICE
COPY services/${SERVICE}/requirements.lock ./
RUN python -m venv /opt/sunmesh \
    && /opt/sunmesh/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY --from=wheels /wheels /wheels
RUN /opt/sunmesh/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
    && /opt/sunmesh/bin/pip check \
    && /opt/sunmesh/bin/python -OO -m compileall -q /opt/sunmesh/lib

FROM python:3.13-slim
# The public image leaves Python's own bytecode out; a process that compiles keeps some MiB of that.
RUN library=$(python -c "import os; print(os.path.dirname(os.__file__))") \
    && python -m compileall -q "$library" && python -OO -m compileall -q "$library"
COPY --from=installed /opt/sunmesh /opt/sunmesh
# A volume mounted here is writable by whichever user the service runs as.
RUN install -d -m 1777 /var/lib/sunmesh /var/backups/sunmesh
ENV PATH=/opt/sunmesh/bin:$PATH SUNMESH_CONFIG=/etc/sunmesh/site.toml \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10000:10000
