# The commands of this project. `make` lists them.
# Everything is built in ./target, ./target-slim and ./target-baseline; only `make install` writes outside of this folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# rustup puts cargo where a non-interactive shell does not look, and scripts/setup puts cargo-deny into target.
export PATH := $(PATH):$(HOME)/.cargo/bin:$(CURDIR)/target/cargo-deny/bin

.PHONY: help dev web test check deny faults bench bench-quick install fmt clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

PAGES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print)

# npm writes this file last.
web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --no-audit --no-fund

# The pages of the classroom; they become part of the binary. Node.js is needed for them only.
web/dist/index.html: $(PAGES) web/node_modules/.package-lock.json
	cd web && npm run build
	@touch $@

web: web/dist/index.html ## build the classroom's pages

# Installs a C compiler if there is none. The first build takes about 4 minutes, the next ones seconds.
dev: ## build and run everything in one process: both brokers and the bridge (ARGS="..." for options)
	@scripts/setup dev
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web; \
	else echo "there is no npm: building without the classroom's pages"; fi
	cargo build --features testing
	@port=; case '$(ARGS)' in *--mqtt-port*) ;; *) \
		if (exec 3<>/dev/tcp/127.0.0.1/1883) 2>/dev/null; then \
			echo "port 1883 is taken, perhaps by a Mosquitto service: the MQTT broker of dev takes another one"; \
			port='--mqtt-port 0'; \
		fi ;; esac; \
	exec target/debug/roombridge dev $$port $(ARGS)

# Installs Mosquitto, Prometheus, a JDK and Maven, and Apache RocketMQ into target/apache-rocketmq. Takes about 15 minutes at first.
# The slim check comes last: with fewer features some of the large dependencies are checked once more.
test: ## check everything: format, tests against the real brokers and in a browser, clippy, the slim build
	@scripts/setup test
	$(MAKE) --no-print-directory check

# The tests are built with clippy's lints: `cargo clippy` would check all the large libraries once more.
WITH_CLIPPY := RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-with-clippy

# All of `make test` but the installing.
check:
	cargo fmt --all --check
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	else echo "deny: licences, sources and vulnerabilities NOT checked: cargo-deny is missing"; fi
	$(MAKE) --no-print-directory web
	cd web && npm run check && npm test
	$(WITH_CLIPPY) cargo test --workspace --all-targets --no-run
	$(WITH_CLIPPY) cargo test --workspace
	cd web && npm run e2e
	cargo check --no-default-features --lib --bins

# The known vulnerabilities are a repository on GitHub. Without a way there the rest is checked all the same.
deny: ## check the licences, the sources and the known vulnerabilities of the libraries that we build on
	@cargo deny --version >/dev/null 2>&1 || \
		{ echo "cargo-deny is missing: run scripts/setup test, or cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --locked check bans licenses sources
	@if GIT_TERMINAL_PROMPT=0 timeout 120 cargo deny fetch db 2>/dev/null; then \
		cargo deny --locked --offline check advisories; \
	else echo "deny: NOT checked for known vulnerabilities: their database could not be fetched"; fi

# Installs the same as `make test`, and starts, kills and stops brokers of its own on free ports. The short forms of these
# scenarios run in `make test`. Most of a scenario is waiting: those of the archive give way to the others, and the seeds of both
# models where nothing else wants the processors.
FAULTS := cargo test --test it -- --ignored --test-threads=1 --nocapture
SEEDS := ROOMBRIDGE_SEEDS=5000 nice -n 19 cargo test
faults: ## try each fault against the real brokers, and write the table docs/faults.md
	@scripts/setup test
	cargo test --test model --lib --test it --no-run
	cargo test --test it scripted::
	{ $(SEEDS) --test model && $(SEEDS) --lib archive::tests::model; } & seeds=$$!; \
		nice -n 10 $(FAULTS) faults::archive_ & archive=$$!; \
		failed=0; $(FAULTS) faults:: --skip faults::archive_ --skip faults::zz_ || failed=1; \
		wait $$archive || failed=1; wait $$seeds || failed=1; exit $$failed
	FAULTS_TABLE=1 $(FAULTS) faults::zz_

# What `make bench` compares with: the build of this commit, with the features of the benchmark's own build. It is built once;
# a program at another place is taken where the variable names it.
BASELINE_COMMIT := ff9f0a4231aa
BASELINE_ROOMBRIDGE ?= $(CURDIR)/target-baseline/roombridge-$(BASELINE_COMMIT)
END_TO_END := cargo bench --no-default-features --target-dir target-slim --bench end_to_end --

$(BASELINE_ROOMBRIDGE):
	@echo "building the commit $(BASELINE_COMMIT) to compare with; 5 to 15 minutes"
	rm -rf target-baseline/source
	mkdir -p target-baseline/source
	git archive $(BASELINE_COMMIT) | tar -x -C target-baseline/source
	cargo build --release --locked --no-default-features --features testing --bin roombridge \
		--manifest-path target-baseline/source/Cargo.toml --target-dir target-baseline/target
	cp target-baseline/target/release/roombridge $@

# Installs the same as `make test`, and the MQTT client of the Java bridge. Three optimised builds take 5 to 15 minutes each
# at first, then measuring takes 50. Both benchmarks write their part of docs/BENCHMARKS.md.
# ARGS="--only drain --rounds 2" measures the rows whose name holds that word, and writes nothing there.
bench: ## measure the way from MQTT to RocketMQ and back beside other bridges, and how large a class holds
	@scripts/setup bench
	@$(MAKE) --no-print-directory $(BASELINE_ROOMBRIDGE)
	BASELINE_ROOMBRIDGE=$(BASELINE_ROOMBRIDGE) $(END_TO_END) $(ARGS)
	$(if $(ARGS),,cargo bench --bench class)

# After the build. Compares with the baseline, too, if `make bench` has built it.
bench-quick: ## compare a few figures with the committed ratios, in 5 minutes (ACCEPT=1 writes them anew)
	@scripts/setup bench
	BASELINE_ROOMBRIDGE=$(wildcard $(BASELINE_ROOMBRIDGE)) $(END_TO_END) --quick $(if $(ACCEPT),--accept)

# Installs a C compiler if there is none, and one binary in ~/.cargo/bin.
install: web ## build an optimised roombridge and put it in ~/.cargo/bin
	@scripts/setup dev
	@echo "building an optimised roombridge and putting it in ~/.cargo/bin; more than 12 minutes on two cores"
	cargo install --path . --locked

fmt: ## format the code, and the pages if there is npm
	cargo fmt --all
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory web/node_modules/.package-lock.json && cd web && npm run format; \
	else echo "there is no npm: the pages are not formatted"; fi

clean: ## remove everything that was built and downloaded
	rm -rf target target-slim target-baseline web/dist web/node_modules
