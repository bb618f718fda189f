# Everything runs as root on a fresh Debian; `setup` costs nothing when all is there.
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
export LAB_REQUIRED := 1
LAB_ENGINES ?= 28.5
ENGINE_TESTS ?= $(addprefix tests/lab/test_,lab.py networks.py docker_options.py restarts.py names.py spread.py ipv6_only.py managed_plugin.py)

.PHONY: help setup browser lint types imports unit soak test test-engines test-systemd demo bench screenshot plugin release clean
help:
	@echo "make demo    two Docker hosts, a Consul and flannelpy on this machine, shown at work (30 s; a minute or two more the first time)"
	@echo "make test    all tests, from pure functions to real Docker hosts"
	@echo "make soak    the address manager's promise, with very many random histories (half an hour)"
	@echo "make test-engines    what Docker decides, on newer Docker Engines (LAB_ENGINES=\"26.1 28.5\")"
	@echo "make test-systemd    the README's steps and the service's life, on two Debian machines with systemd (4 minutes)"
	@echo "make bench   measures traffic, attachments and thousands of hosts, into docs/benchmarks (half an hour; FIGURES=\"run tcp\" for some)"
	@echo "make plugin  the managed plugin, into dist/plugin, for \`docker plugin create\`; needs a Docker Engine"
	@echo "make release wheel, source, managed plugin, SBOM and checksums, into dist"
	@echo "make screenshot    the page of a small cluster, into docs/page.png (1 minute)"
	@echo "make lint types imports unit    the quick checks, alone"

setup:
	@scripts/setup

browser:
	@scripts/setup --browser

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: setup
	$(PYTHON) -m mypy

imports: setup
	.venv/bin/lint-imports

unit:
	@scripts/setup --browser --release
	$(PYTHON) -m pytest tests/unit

soak: setup
	SOAK_EXAMPLES=$${SOAK_EXAMPLES:-20000} $(PYTHON) -m pytest --timeout 7200 \
		tests/unit/test_ipam_machine.py tests/contract/test_ipam_machine.py

# First those that no other test may disturb, then the others side by side, whatever became of the first.
test:
	@scripts/setup --browser --plugin-base --release
	@status=0; \
	$(PYTHON) -m pytest -m alone || status=1; \
	$(PYTHON) -m pytest -m "not alone" -n 4 --dist loadfile --no-loadscope-reorder || status=1; \
	exit $$status

test-engines:
	@set -e; for engine in $(LAB_ENGINES); do \
		echo "Docker Engine $$engine"; \
		LAB_ENGINE=$$engine scripts/setup --plugin-base; \
		LAB_ENGINE=$$engine $(PYTHON) -m pytest $(ENGINE_TESTS); \
	done

test-systemd:
	@scripts/setup --systemd
	$(PYTHON) -m pytest tests/systemd

demo: setup
	@$(PYTHON) -m tests.lab.demo

bench: setup
	$(PYTHON) -m tests.bench --write $(FIGURES)

plugin:
	@scripts/plugin dist/plugin

release:
	@scripts/release

screenshot: browser
	$(PYTHON) -m tests.lab.screenshot

clean:
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
