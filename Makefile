# The commands a person needs. `make demo` shows the whole line at work, `make test` checks it.
# PYTHON may name another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
SERVER := .venv-label-studio
PIP := -m pip install --quiet --disable-pip-version-check
BENCHMARKS := brush degradation growth load metrics preannotation proposals refsel refstar_step restore \
    review shards
FUZZ := tests/annotator/test_fuzz_service.py tests/annotator/test_fuzz_brush.py \
    tests/dataset_engine/shards/test_fuzz_shards.py tests/dataset_engine/sources/test_source_pairs.py
# glibc gives memory back after every step and asks for it again, page by page: a sixth of a step's time
MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1
BROWSERS := chromium chromium-browser google-chrome
PACKAGES := annotator dataset_engine models restoration migrations tests benchmarks docs

.PHONY: demo refsel refstar-tiny refstar-tables test install lint types format unit chromium fuzz bench docs clean

## demo: install everything, then watch faces go from folders to a trained RefSel
demo: install
	$(VENV)/bin/engine --home demo/home demo demo $(DEMO)

## refsel: render people, train RefSel on them (42 minutes on two cores with AMX), test it on others
refsel: install
	$(VENV)/bin/engine --home refsel/home sample-shards refsel/shards
	$(MEMORY) $(VENV)/bin/engine --home refsel/home train-refsel refsel/shards --out refsel/run \
	    --from-scratch --config restoration/configs/refsel-sample.yaml
	$(VENV)/bin/engine --home refsel/home evaluate-refsel refsel/shards --model refsel/run/best --out refsel/test

## refstar-tiny: train RefSTAR in its three phases at 64 px on rendered people, test it on others
refstar-tiny: install
	test -f refsel/shards/latest || $(VENV)/bin/engine --home refsel/home sample-shards refsel/shards
	test -f refsel/test/evaluation.json || $(MEMORY) $(VENV)/bin/engine --home refsel/home train-refsel refsel/shards \
	    --out refstar/refsel --from-scratch --config restoration/configs/refsel-tiny.yaml
	refsel=refsel/run/best; test -f refsel/test/evaluation.json || refsel=refstar/refsel/best; \
	for phase in 1 2 3; do $(MEMORY) $(VENV)/bin/engine --home refsel/home train-restoration refsel/shards \
	    --config tiny --phase $$phase --refsel $$refsel --out refstar/run --resume latest || exit 1; done
	$(VENV)/bin/engine --home refsel/home evaluate-transfer refsel/shards --config tiny --sample \
	    --model refstar/run/phase-2/best --out refstar/test
	$(VENV)/bin/engine --home refsel/home evaluate-transfer refsel/shards --config tiny --sample \
	    --model refstar/run/phase-3/best --out refstar/test-refsel

## refstar-tables: restore, explain and put into the paper's two tables what `make refstar-tiny` trained
refstar-tables: install
	$(VENV)/bin/engine --home refsel/home make-test-set refsel/shards --preset hidden-marks --out refstar/set
	$(VENV)/bin/engine --home refsel/home restore refstar/set/lq --reference refstar/set/ref --aligned \
	    --model refstar/run/phase-3/best --batch 8 --also comparison --out refstar/restored
	$(VENV)/bin/engine --home refsel/home evaluate refstar/set "tiny RefSTAR=refstar/restored" \
	    --out refstar/table-1
	name=$$(ls refstar/set/lq | head -1); \
	$(VENV)/bin/engine --home refsel/home explain refstar/set/lq/$$name refstar/set/ref/$$name \
	    --truth refstar/set/gt/$$name --model refstar/run/phase-3/best --out refstar/explained.html
	$(MEMORY) $(VENV)/bin/engine --home refsel/home ablate refsel/shards --config tiny --sample --seeds 3 \
	    --steps 200 --phase-one refstar/run --out refstar/table-2

## test: set up what the tests need, then format, lint, types and all tests
test: install chromium lint types unit

## install: both environments, the project's and Label Studio's own
install: $(VENV)/.installed $(SERVER)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing the project (torch makes this several GB; some minutes the first time)"
	$(VENV)/bin/python $(PIP) -c constraints.txt -e '.[dev,docs,openvino,postgres,ray,web]'
	@# mediapipe's own pins hold NumPy and protobuf back, though it runs with the current ones
	@$(VENV)/bin/python $(PIP) --no-deps -c constraints.txt mediapipe \
	    || echo "NOTE: mediapipe has no wheel for this Python (it has for 3.11 and 3.12): the demo" \
	            "works, but photographs cannot be ingested"
	@touch $@

$(SERVER)/.installed: constraints-label-studio.txt
	$(PYTHON) -m venv $(SERVER)
	@echo "installing the Label Studio server (1 GB)"
	$(SERVER)/bin/python $(PIP) -c constraints-label-studio.txt label-studio
	@touch $@

## chromium: a browser for the browser tests: one that is here, else apt's, else Playwright's own
chromium: $(VENV)/.installed
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit; done; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	    && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	|| $(VENV)/bin/playwright install chromium >/dev/null 2>&1 \
	|| echo "NOTE: no Chromium here and none could be installed: BROWSER TESTS ARE LEFT OUT"

lint:
	$(VENV)/bin/ruff format --check $(PACKAGES)
	$(VENV)/bin/ruff check $(PACKAGES)

types:
	$(VENV)/bin/mypy

# a file's tests stay together, as they share servers; one thread each, or the processes wait for each other
unit:
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n logical --maxprocesses 4 --dist loadfile $(PYTEST)

format:
	$(VENV)/bin/ruff format $(PACKAGES)
	$(VENV)/bin/ruff check --fix $(PACKAGES)

## docs: the documentation as a folder of pages, site/index.html; a broken link fails
docs: $(VENV)/.installed
	$(VENV)/bin/mkdocs build --strict

## fuzz: 10,000 cases each against endpoints, RLE, shards and CSV files (eight minutes of processor time)
fuzz: install
	REFSTAR_FUZZ_CASES=10000 $(VENV)/bin/pytest --timeout 14400 $(FUZZ)

## bench: side-by-side timings, printed as ratios; nothing in them is a test
bench: install
	@for bench in $(BENCHMARKS); do \
	    echo "== $$bench"; $(VENV)/bin/python benchmarks/$$bench.py || exit 1; done

clean:
	rm -rf $(VENV) $(SERVER) demo refsel refstar build dist site *.egg-info
