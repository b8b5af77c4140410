# Small, non-root; only /data is written to.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY storage storage
COPY outbound outbound
COPY invoicing invoicing
COPY ingest ingest
COPY rating rating
COPY entitlements entitlements
COPY catalog catalog
RUN python -m venv /opt/tallyman && /opt/tallyman/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 tallyman && install -d -o tallyman /data
COPY --from=build /opt/tallyman /opt/tallyman
USER tallyman
# Compiled kernels are kept with the data: nothing else is written to.
ENV NUMBA_CACHE_DIR=/data/compiled
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["/opt/tallyman/bin/tallyman", "serve", "--data", "/data", "--host", "0.0.0.0"]
