#!/bin/sh
# SPDX-License-Identifier: MIT
# ThreadSanitizer: what has threads of its own (queue, files, events, models in memory, log), then the
# whole server, driven by its tests: jobs, streams, bodies that are handled aside, keys and settings
# that are read again. Builds into $1. Libraries that are not instrumented are taken on trust.
set -eu
out=${1:-build-tsan}
cd "$(dirname "$0")/.."
units="events queue queue_change queue_file store turns log_ring model_pool"
server="native queue sockets media openai sdapi guard ops"

[ -f "$out/build.ninja" ] ||
    meson setup "$out" --buildtype=debugoptimized -Db_sanitize=thread -Dwerror=false -Db_lundef=false -Db_ndebug=false
ninja -C "$out" limn $(printf 'tests/test_%s ' $units)
rm -f "$out"/race.*
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66 second_deadlock_stack=1 log_path=$(realpath "$out")/race"
export LIMN_TEST_SECONDS="${LIMN_TEST_SECONDS:-600}"
failed=
for test in $units; do
    "$out/tests/test_$test" || failed="$failed test_$test"
done
for test in $server; do
    LIMN="$out/limn" node "tests/server/test_$test.mjs" || failed="$failed $test"
done
python3 tests/server/test_notify.py "$out/limn" || failed="$failed notify"
if [ -n "$(find "$out" -maxdepth 1 -name 'race.*')" ]; then
    cat "$out"/race.*
    failed="$failed (races, above)"
fi
[ -z "$failed" ] || { echo "tsan: failed:$failed" >&2; exit 1; }
echo "tsan: clean"
