# rstore: make demo, test, check, conformance, bench, bench-gc, torture, install.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
BIN = target/release/rstore

.PHONY: all demo test test-peers check conformance bench bench-gc bench-registry faults torture install uninstall clean help

all: $(BIN)

help:
	@echo 'make demo         build, look, prune: a tour on a store that is removed at the end'
	@echo 'make check        format, lints, unit tests: is the change fit?'
	@echo 'make test         everything, against skopeo, umoci, buildah; installs them where it can'
	@echo 'make conformance  what is made of a Dockerfile, case by case, by rstore and by buildah'
	@echo 'make bench        builds and lists timed against buildah, BuildKit, podman, docker'
	@echo 'make bench-registry   push and pull timed against skopeo'
	@echo 'make bench-gc     prunes timed against umoci gc, find -delete and a plain loop'
	@echo 'make torture      ten minutes of builds, copies and prunes at once, and kill -9'
	@echo 'make faults       killed, and its disk failing, at every system call: hours, as root'
	@echo 'make install      program, manual pages, completions, systemd units (PREFIX, DESTDIR)'

# Cargo knows better than make what is out of date.
.PHONY: $(BIN)
$(BIN):
	$(CARGO) build --release --locked

demo: $(BIN)
	@RSTORE=$(CURDIR)/$(BIN) fixtures/demo/run.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --lib --bins --test layering --test licenses

test: test-peers
	$(CARGO) test --locked --no-fail-fast

test-peers:
	@fixtures/install-peers.sh

conformance: test-peers
	$(CARGO) test --locked --test conformance -- --table

bench: $(BIN) test-peers
	RSTORE=$(CURDIR)/$(BIN) $(CARGO) run --locked --example bench

bench-registry: $(BIN) test-peers
	RSTORE=$(CURDIR)/$(BIN) $(CARGO) run --locked --example registry_bench

# Layouts of 10,000, 100,000 and a million small files, one at a time: the largest
# takes 4 GB of disk, and an hour. BENCH_GC_SIZES='10000 100000' for less.
bench-gc: $(BIN) test-peers
	$(CARGO) build --release --locked --example bench_gc
	RSTORE=$(CURDIR)/$(BIN) target/release/examples/bench_gc target/bench-gc $(BENCH_GC_SIZES)

# RSTORE_TEST_SECONDS says for how long, RSTORE_TEST_SEED repeats what was drawn.
torture: test-peers
	RSTORE_TEST_SECONDS=$${RSTORE_TEST_SECONDS:-600} \
	    $(CARGO) test --locked --test end_to_end torture -- --nocapture

# Each test says how many calls it hit.
faults:
	RSTORE_TEST_FAULTS=all $(CARGO) test --locked --test faults -- --nocapture

install: $(BIN)
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/rstore
	install -D -m 644 man/rstore-config.5 $(DESTDIR)$(PREFIX)/share/man/man5/rstore-config.5
	install -D -m 644 man/rstore-cache.7 $(DESTDIR)$(PREFIX)/share/man/man7/rstore-cache.7
	install -D -m 644 contrib/config.toml $(DESTDIR)$(PREFIX)/share/doc/rstore/config.toml
	for page in man/*.1; do \
	    install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man1/$${page##*/} || exit 1; \
	done
	install -D -m 644 completions/rstore.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rstore
	install -D -m 644 completions/_rstore $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_rstore
	install -D -m 644 completions/rstore.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/rstore.fish
	install -D -m 644 contrib/cron.d/rstore-prune $(DESTDIR)$(PREFIX)/share/doc/rstore/cron.d/rstore-prune
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(PREFIX)/bin|g' contrib/systemd/rstore-prune.service \
	    > $(DESTDIR)$(UNITDIR)/rstore-prune.service
	install -D -m 644 contrib/systemd/rstore-prune.timer $(DESTDIR)$(UNITDIR)/rstore-prune.timer

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/rstore \
	    $(DESTDIR)$(PREFIX)/share/man/man1/rstore.1 \
	    $(DESTDIR)$(PREFIX)/share/man/man1/rstore-*.1 \
	    $(DESTDIR)$(PREFIX)/share/man/man5/rstore-config.5 \
	    $(DESTDIR)$(PREFIX)/share/man/man7/rstore-cache.7 \
	    $(DESTDIR)$(PREFIX)/share/doc/rstore/config.toml \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rstore \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_rstore \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/rstore.fish \
	    $(DESTDIR)$(PREFIX)/share/doc/rstore/cron.d/rstore-prune \
	    $(DESTDIR)$(UNITDIR)/rstore-prune.service \
	    $(DESTDIR)$(UNITDIR)/rstore-prune.timer

clean:
	$(CARGO) clean
