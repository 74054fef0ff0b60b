# limn: the short way to every common task. Meson does the work; see meson.build.
B ?= build
JOBS ?= $(shell nproc)
MESON_FLAGS ?=

.PHONY: all demo models-eval test torture check check-clang bench soak asan tsan fuzz format docs install install-deps clean web check-web test-web install-web test-clients test-llama mutants

all: $(B)/build.ninja
	ninja -C $(B) -j $(JOBS)

$(B)/build.ninja:
	sh tools/setup.sh
	meson setup $(B) -Demulate=true $(MESON_FLAGS)

demo: all
	sh tools/demo.sh $(B)/limn out

# Measures the bundled models; needs Python with torch (tools/train/README.md). DATA= keeps the art and the judge.
models-eval: all
	sh tools/train/models_eval.sh $(B)/limn $(DATA)

test: all
	meson test -C $(B) --print-errorlogs --num-processes $(JOBS)

# kill -9 at 200 random moments, on a real disk (the tests have 20 rounds).
torture: all
	LIMN_TORTURE_ROUNDS=200 LIMN_TEST_DIR=$(B) $(B)/tests/test_torture

# Programs of other people against `limn serve`; needs Node and npm (make install-web brings them).
test-clients: all
	cd tests/clients && npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --silent
	LIMN=$(CURDIR)/$(B)/limn node tests/clients/test_clients.mjs

# Layer order, budgets, formatting, generated files.
check:
	python3 tools/check_layers.py
	python3 tools/check_style.py

# Everything that gcc compiles, and the fuzz targets, read by clang with the same warnings.
check-clang: $(B)/build.ninja
	python3 tools/check_clang.py $(B) --jobs $(JOBS)

# GGUF files both ways with llama.cpp, which is brought into PEER first (tests/peer/README.md); Python with numpy.
PEER ?= $(B)/peer
PYTHON ?= python3
test-llama: all
	sh tests/peer/get_llama.sh $(PEER)
	$(PYTHON) tests/peer/llama.py $(B)/limn $(PEER)/llama_peer $(PEER)/work --split $(PEER)/gguf-split

# Breaks the rules of Qwen3-VL one at a time in a copy: does the named test notice? MUTANTS: some of their names.
MUTANTS ?=
mutants:
	python3 tests/mutate.py $(B)/mutants $(MUTANTS)

# Two hours of mixed work on the stub engine; fails when memory, descriptors or files grow.
SOAK_HOURS ?= 2
soak: all
	LIMN=$(CURDIR)/$(B)/limn node bench/soak.mjs --hours $(SOAK_HOURS) --log $(B)/soak.log

# Kernels at the shapes of the models; with BENCH_MODEL=FILE (a Stable Diffusion checkpoint; bench/random_model.py
# makes some) also its networks with a line for each class of ops.
bench: all
	meson test -C $(B) --benchmark --verbose --num-processes 1
	test -z "$(BENCH_MODEL)" || ninja -C $(B) bench/bench_network
	test -z "$(BENCH_MODEL)" || for part in unet vae-decode; do for precision in fast int8; do \
	    $(B)/bench/bench_network "$(BENCH_MODEL)" --part $$part --precision $$precision || exit 1; done; done

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer, kernels too. At -O1: gcc carries the checks
# through every unrolled loop, and at -O2 that takes several times as long (norm_avx2.c: 7.7 s of a core for 1.5).
# Warnings stay warnings: at -O1, with checks, gcc warns of texts that are cut on purpose.
asan:
	test -f build-asan/build.ninja || meson setup build-asan --buildtype=debugoptimized -Doptimization=1 -Dwerror=false \
	    -Db_sanitize=address,undefined -Db_ndebug=false
	ninja -C build-asan -j $(JOBS)
	ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tools/lsan.supp:print_suppressions=0 LIMN_SANITIZED=asan \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    meson test -C build-asan --print-errorlogs --num-processes $(JOBS) --timeout-multiplier 5

# The queue, its files and events, the models in memory, and the whole server under ThreadSanitizer.
tsan:
	sh tools/tsan.sh build-tsan

# Fuzz targets (clang's libFuzzer); run one with: build-fuzz/fuzz/fuzz_NAME fuzz/corpus/NAME
fuzz:
	test -f build-fuzz/build.ninja || CC=clang-16 meson setup build-fuzz -Dfuzz=true \
	    --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Db_ndebug=false
	ninja -C build-fuzz -j $(JOBS) fuzzers

format:
	git ls-files '*.c' '*.h' | xargs clang-format-16 -i

# Pages that are written by the program itself.
docs: all
	$(B)/tools/params_doc > docs/PARAMETERS.md.new && mv docs/PARAMETERS.md.new docs/PARAMETERS.md

# The studio (web/). Its built files are committed: only who changes it needs Node.
web:
	cd web && npm ci --ignore-scripts --no-audit --no-fund && npm run build

check-web:
	sh tools/check_web.sh

# The whole studio in Chromium against a real server with small models (WEB_MODELS: their folder); minutes.
WEB_MODELS ?= models
test-web: all
	test -d web/node_modules || (cd web && npm ci --ignore-scripts --no-audit --no-fund)
	node tests/web/studio.mjs --limn $(B)/limn --models $(WEB_MODELS)

install-web:
	sh tools/setup.sh --web

install: all
	meson install -C $(B)

install-deps:
	sh tools/setup.sh

clean:
	rm -rf $(B) build-asan build-tsan build-fuzz
