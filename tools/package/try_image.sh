#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the image of the Dockerfile without an engine and without a hub, and uses it: a key is made,
# the server answers its health check, draws a picture with the bundled model, and ends when told to.
# The base image is made here from Debian's packages; apt inside takes the settings of this machine.
#
#     tools/package/try_image.sh [FOLDER]     FOLDER keeps layers and the picture; else nothing stays
#
# Needs root, and buildah, mmdebstrap, iproute2, curl, jq (apt-get install).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ $# -gt 0 ]; then
    mkdir -p "$1"
    work=$(cd "$1" && pwd)
else
    work=$(mktemp -d)
fi
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ $# -gt 0 ] || rm -rf "$work"
}
# shellcheck disable=SC2064 # the arguments of now
trap "finish $*" EXIT INT TERM
for tool in buildah mmdebstrap ip curl jq; do
    command -v $tool >/dev/null || { echo "try_image: $tool is not installed" >&2; exit 1; }
done

b() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
say() { echo "try_image: $*"; }

# ---- in a network of its own: what is done with the image ----
inside() { b run --isolation chroot -v "$work/data:/data" "$container" -- "$@"; }

use() {
    ip link set lo up
    container=$(b from --pull-never limn)
    rm -rf "$work/data"
    mkdir "$work/data"
    chown 10001 "$work/data"
    say "runs as $(inside id -un), $(inside limn --version)"
    key=$(inside limn key create me admin --json | jq -r .key)
    inside limn serve >"$work/server.log" 2>&1 &
    server=$!
    health=$(sed -n '/^HEALTHCHECK/,/CMD/p' "$root/tools/package/Dockerfile" | sed -n 's/^ *CMD //p' | jq -r '.[2]')
    left=600
    until inside /bin/bash -c "$health" 2>/dev/null; do
        left=$((left - 1))
        [ $left -gt 0 ] && kill -0 $server || { cat "$work/server.log" >&2; exit 1; }
        sleep 0.2
    done
    say "healthy; /livez: $(curl -sS -f http://127.0.0.1:7860/livez)"
    [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:7860/v1/models)" = 401 ]
    job=$(curl -sS -f -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d '{"prompt":"a red apple","seed":7}' 'http://127.0.0.1:7860/v1/draw?wait=300')
    [ "$(echo "$job" | jq -r .job.state)" = succeeded ] || { echo "$job" >&2; exit 1; }
    curl -sS -f -H "Authorization: Bearer $key" -o "$work/picture.png" \
        "http://127.0.0.1:7860$(echo "$job" | jq -r '.job.artifacts[0].url')"
    say "drew $(wc -c <"$work/picture.png") bytes with $(echo "$job" | jq -r .job.model)"
    # the program itself, which is alone in this network: buildah does not pass signals on
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/ns/net")" = "$(readlink /proc/self/ns/net)" ] || continue
        case $(readlink "$process/exe") in
        */bin/limn) kill -TERM "${process#/proc/}" ;;
        esac
    done
    wait $server
    server=
    say "ended when told to"
    b rm "$container" >/dev/null
}

if [ "${TRY_IMAGE_INSIDE:-}" = 1 ]; then
    use
    exit
fi

# ---- the base image ----
if ! b inspect --type image debian:bookworm-slim >/dev/null 2>&1; then
    [ -f "$work/base.tar" ] || mmdebstrap --quiet --variant=minbase bookworm "$work/base.tar"
    container=$(b from scratch)
    b add "$container" "$work/base.tar" / >/dev/null
    b commit --quiet "$container" docker.io/library/debian:bookworm-slim >/dev/null
    b rm "$container" >/dev/null
fi

# ---- the image ----
apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-|ForceIP)' >"$work/apt.conf" || true
rm -rf "$work/source"
mkdir "$work/source"
(cd "$root" && git ls-files -co --exclude-standard -z | xargs -0 tar -c) | tar -x -C "$work/source"
b bud --isolation chroot --pull-never --layers --format docker -v "$work/apt.conf:/etc/apt/apt.conf.d/99try:ro" \
    -f "$work/source/tools/package/Dockerfile" -t limn "$work/source"
TRY_IMAGE_INSIDE=1 unshare --net sh "$0" "$work"
