FROM golang:1.26 AS builder
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
WORKDIR /workspace

# Modules change less often than sources: this layer is cached.
COPY go.mod go.sum ./
RUN go mod download

COPY api/ api/
COPY controllers/ controllers/
COPY cmd/ cmd/
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags "-X main.version=${VERSION}" -o operator ./cmd/operator

FROM gcr.io/distroless/static:nonroot
COPY --from=builder /workspace/operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]
