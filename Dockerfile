# The binary alone, on nothing: no shell, no package manager, a numeric user that is not root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X pgevict/internal/sidecar.version=${VERSION}" -o /pgevict .

FROM scratch
# For rediss:// and sslmode=verify-full with a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /pgevict /pgevict
USER 65532:65532
EXPOSE 9377
ENTRYPOINT ["/pgevict"]
