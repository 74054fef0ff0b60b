#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what building limn needs on Debian 12 (and newer) or Ubuntu 24.04; does nothing when all
# of it is there. With --check it only says what is missing and fails; with --web it also installs
# what work on the studio needs (make web, make test-web); with --promtool it puts that one program of
# the package prometheus into /usr/local/bin, for the tests of /metrics.
set -eu

BUILD="gcc libc6-dev meson ninja-build pkg-config make python3"
LIBS="libedit-dev libvips-dev zlib1g-dev libjpeg-dev libwebp-dev libjansson-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libsodium-dev
      libavformat-dev libavcodec-dev libswscale-dev libavutil-dev libpoppler-glib-dev libcairo2-dev libseccomp-dev libfontconfig-dev
      libmicrohttpd-dev libwslay-dev libcurl4-openssl-dev libglib2.0-dev brotli"
TESTS="libcmocka-dev clang-16 clang-format-16 fonts-dejavu-core libsimde-dev nodejs"

WEB="nodejs npm chromium sqlite3"

missing() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            printf '%s ' "$package"
    done
}

if ! command -v dpkg-query >/dev/null; then
    [ "${1:-}" = --check ] && exit 0
    echo "setup: this is not Debian; install by hand: $BUILD $LIBS (tests: $TESTS)" >&2
    exit 1
fi

if [ "${1:-}" = --check ]; then
    need=$(missing $BUILD $LIBS)
    [ -z "$need" ] && exit 0
    echo "setup: missing: $need" >&2
    echo "setup: run 'make install-deps' first (it installs these packages with apt-get)" >&2
    exit 1
fi

if [ "${1:-}" = --promtool ]; then
    command -v promtool >/dev/null && exit 0
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    (cd "$dir" && apt-get download -q prometheus)
    dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb | tar -x -C "$dir" ./usr/bin/promtool
    install -m 0755 "$dir/usr/bin/promtool" /usr/local/bin/promtool
    exit 0
fi

[ "${1:-}" = --web ] || WEB=
# A Node that came another way is as good.
if [ -n "$WEB" ] && command -v npm >/dev/null; then WEB="chromium sqlite3"; fi
need=$(missing $BUILD $LIBS $TESTS $WEB)
if [ -z "$need" ]; then
    echo "setup: everything is installed"
    exit 0
fi
run=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup: not root and no sudo; ask an administrator to install: $need" >&2
        exit 1
    }
    run=sudo
fi
echo "setup: installing $need"
$run env DEBIAN_FRONTEND=noninteractive apt-get update -q
$run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $need
