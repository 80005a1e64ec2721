# The gateway in an image of its own: one static executable, its directory, and nothing else.
#
#   docker build --tag cim-gateway .
#   docker run --rm cim-gateway --version
#
# docs/releasing.md tells how the same commit becomes the same image.
ARG RUST=1.95.0
ARG ALPINE=3.23
# The list of what is in the image is made of Cargo.lock, too: an executable does not tell what it was made of.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# On Alpine the standard library is musl's, and executables are static.
FROM rust:${RUST}-alpine${ALPINE} AS build
WORKDIR /build
COPY . .
# Where the sources lay says nothing about the gateway. Names of functions stay, for the log of a panic; their lines would be most of the
# image.
ENV CARGO_PROFILE_RELEASE_DEBUG=false \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    CARGO_INCREMENTAL=0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    cargo build --locked --release --bin cim-gateway
RUN mkdir data

FROM scratch
LABEL org.opencontainers.image.title="cim-gateway" \
      org.opencontainers.image.description="An open, durable customer channel manager: CIM messages over gRPC and the documented JSON" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/release/cim-gateway /cim-gateway
# Where the gateway keeps messages, in its folder data, unless told otherwise.
COPY --from=build --chown=65532:65532 /build/data /var/lib/cim-gateway
WORKDIR /var/lib/cim-gateway
VOLUME /var/lib/cim-gateway
# Nobody: what is not root needs no name.
USER 65532:65532
EXPOSE 50051 8080
# A start may take minutes, where the index of the store is rebuilt. With another grpc.listen, CIM_SERVER has to say so.
HEALTHCHECK --interval=10s --timeout=10s --start-period=20m --retries=3 CMD ["/cim-gateway", "health"]
ENTRYPOINT ["/cim-gateway"]
CMD ["serve"]
