PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

.PHONY: demo test check audit bench clean

demo: $(READY)
	$(BIN)/reelweave demo --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py
	$(BIN)/python infra/audit.py

audit: $(READY)
	$(BIN)/python infra/audit.py

bench: $(READY)
	$(BIN)/reelweave bench restore
	$(BIN)/reelweave bench gops
	$(BIN)/reelweave bench sharing
	$(BIN)/reelweave bench cost
	$(BIN)/reelweave bench video

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build demo-out bench-out *.egg-info
