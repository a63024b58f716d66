# The targets. Each one installs what it needs; a second run skips what is there.
PY := .venv/bin/python
PREPARE := cluster/deploy/install/prepare.sh
# A broker of our own is needed only where RABBITMQ_URL names none.
BROKER := $(if $(RABBITMQ_URL),,broker)

# Most tests wait for processes to start and end. Each side has its own broker and its own Ray. ARGS="-n 0" is one by one.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-rabbitmq test-ray test-cluster test-unit lint docs bench bench-compare bench-ab faults

help: ## list the targets
	@echo "rabbitray: an elastic pool of Ray actors that works a RabbitMQ queue"
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1@\2/p' $(MAKEFILE_LIST) | \
	  while IFS=@ read -r target what; do printf '%-36s %s\n' "$$target" "$$what"; done
	@echo
	@echo "RABBITMQ_URL: demo and bench use that broker instead of a private node.  PYTHON: another python3."
	@echo "RABBITRAY_RABBITMQ: which RabbitMQ private nodes run: 3.10, 4.0, 4.3 or the folder of one."

demo: ## the main job on reference data, with nothing to prepare
	@$(PREPARE) python $(BROKER)
	@$(PY) -m rabbitray demo $(ARGS)

test: ## all tests, on real RabbitMQ, Ray and DuckDB (ARGS="-k name" picks some), some on the newest RabbitMQ, too
	@$(PREPARE) python broker test-tools
	@$(PREPARE) cluster-test-tools || true # without them tests/cluster is left out, with a line that says why
	@$(PY) -m tests.on_rabbitmq newest $(SIDE_BY_SIDE) $(ARGS)

test-rabbitmq: ## tests/broker and tests/pool on RabbitMQ 3.10, 4.0 and 4.3
	@$(PREPARE) python broker test-tools
	@$(PY) -m tests.on_rabbitmq all $(SIDE_BY_SIDE) $(ARGS)

test-ray: ## what rests on Ray's inside, on the newest Ray, or RAY=2.57.0 (ARGS="tests/pool/test_path.py": that, too)
	@$(PREPARE) python broker
	@$(PY) -m tests.on_ray $(or $(RAY),newest) $(ARGS)

test-cluster: ## hosts in namespaces (root): `ray up`, nodes that die, freeze, are cut off, join late
	@$(PREPARE) python broker cluster-test-tools
	@WHOLE_CLUSTER=1 $(PY) -m pytest tests/cluster --timeout 1800 $(ARGS)

test-unit: ## the quick tests that need neither broker nor Ray: under a minute
	@$(PREPARE) python
	@$(PY) -m pytest -n 2 --dist loadfile -m "not slow" --hypothesis-profile quick tests/unit $(ARGS)

lint: ## ruff format, ruff, import-linter, mypy
	@$(PREPARE) python
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	.venv/bin/lint-imports
	$(PY) -m mypy

docs: ## docs/api.md and docs/configuration.md, made from the code
	@$(PREPARE) python
	@$(PY) -m docs.api_page > docs/api.md
	@$(PY) -m rabbitray.cluster.settings > docs/configuration.md

bench: ## every bench; writes bench/results/ with a table (ARGS="--quick" for a short run)
	@$(PREPARE) python $(BROKER)
	@$(PY) -m bench all $(ARGS)

bench-compare: ## compare bench/results with BASE=file; fails on a ratio more than 10 % worse
	@$(PREPARE) python
	@$(PY) -m bench compare "$(BASE)"

bench-ab: ## compare two commits: BASE=commit BENCH=name LIMIT=3 (% that HEAD may be worse)
	@$(PREPARE) python $(BROKER)
	@$(PY) -m bench.ab "$(BASE)" "$(BENCH)" --limit $(or $(LIMIT),3) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

faults: ## the crash series, ROUNDS=20 times each
	@$(PREPARE) python broker
	@ROUNDS=$(or $(ROUNDS),20) $(PY) -m pytest -m "faults or long or each_rabbitmq" --timeout 1800 $(ARGS)
