#!/bin/sh
# SPDX-License-Identifier: MIT
# The queue, its events and the log in memory under ThreadSanitizer: builds only what those tests need, into $1.
set -eu
out=${1:-build-tsan}
mkdir -p "$out"
root=$(cd "$(dirname "$0")/.." && pwd)
deps="vips glib-2.0 poppler-glib cairo fontconfig libavformat libavcodec libswscale libavutil libseccomp gobject-2.0 libjpeg libwebp jansson sqlite3 libsodium libutf8proc cmocka zlib"
flags="-std=gnu11 -O1 -g -fsanitize=thread -D_GNU_SOURCE -DLIMN_VERSION=\"tsan\" -I$root/src -I$root/include"
flags="$flags $(pkg-config --cflags $deps)"

objects=
compile() {
    object="$out/$(echo "$1" | tr / _).o"
    if [ ! -e "$object" ] || [ -n "$(find "$root/src" "$root/include" "$root/tests" -name '*.[ch]' -newer "$object" -print -quit)" ]; then
        ${CC:-cc} $flags -c "$root/$1" -o "$object"
    fi
    objects="$objects $object"
}

cd "$root"
for file in src/base/*.c src/param/*.c src/image/*.c src/media/*.c src/job/*.c src/server/log_ring.c; do
    case $file in
    # what draws and sees stays out
    */runner_engine.c | */model_pool.c | */run_see.c | */shelf.c) ;;
    *) compile "$file" ;;
    esac
done
shared=$objects
for test in events queue queue_change store turns log_ring; do
    objects=$shared
    compile "tests/test_$test.c"
    ${CC:-cc} -fsanitize=thread $objects -o "$out/test_$test" $(pkg-config --libs $deps) -lm -ldl -lpthread
    # libvips runs threads of its own and is not instrumented
    TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 second_deadlock_stack=1" \
        "$out/test_$test"
done
