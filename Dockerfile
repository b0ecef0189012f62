# An image of a binary that is built already: docs/containers.md has the commands.
FROM scratch
COPY grantling /grantling
# An empty folder, which gives a new volume its owner.
COPY --chown=65532:65532 data /data
# A database in memory is a file without a name in TMPDIR.
ENV GRANTLING_ADDR=0.0.0.0:9096 GRANTLING_DB=/data/grantling.db TMPDIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 9096
HEALTHCHECK --interval=5s --timeout=11s CMD ["/grantling", "-ready"]
ENTRYPOINT ["/grantling"]
