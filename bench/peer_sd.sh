#!/bin/sh
# SPDX-License-Identifier: MIT
# limn beside stable-diffusion.cpp: the same file, size, sampler and threads, run in turn.
#
#   bench/peer_sd.sh LIMN SD_CLI MODEL.safetensors [ROUNDS] [STEPS] [SIDE] [THREADS]
#
# Prints the median seconds of a guided step and of the autoencoder's decoding, the wall time of the
# whole run, the peak memory, and the peer's numbers over limn's. Build the peer for the processor
# it runs on: cmake -DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON. PEER_FLAGS adds options to it, for example
# "--diffusion-conv-direct --vae-conv-direct". The machine must be quiet: a run of anything else
# beside it makes the numbers worthless. Weights may be random: only time is looked at.
set -eu
limn=$1 peer=$2 model=$3
rounds=${4:-3} steps=${5:-3} side=${6:-512} threads=${7:-2}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM
prompt="a lighthouse at dusk, oil painting"
flags=${PEER_FLAGS:-}

# "12.3 s" or "950 ms" to seconds
seconds() { awk '{ print ($2 ~ /^ms/) ? $1 / 1000 : $1 }'; }

run_limn() {
    /usr/bin/time -v "$limn" draw "$prompt" -m "$model" -W "$side" -H "$side" --steps "$steps" \
        --sampler Euler --cfg-scale 7 --seed 42 --threads "$threads" -o "$dir/limn.png" --overwrite \
        >/dev/null 2>"$dir/log"
    grep "^denoise $steps/$steps" "$dir/log" | tail -1 | sed 's/^[^,]*, //; s,/step.*,,' | seconds
    grep '^decode 1/1' "$dir/log" | tail -1 | sed 's/^[^,]*, //; s,/step.*,,' | seconds
    common
}

run_peer() {
    # shellcheck disable=SC2086
    /usr/bin/time -v "$peer" -m "$model" -p "$prompt" -W "$side" -H "$side" --steps "$steps" \
        --sampling-method euler --cfg-scale 7 -s 42 -t "$threads" -o "$dir/peer.png" $flags \
        >"$dir/log" 2>&1
    # its first step holds the loading of the weights: the last one is taken, as limn's
    tr '\r' '\n' <"$dir/log" | grep " $steps/$steps - " | tail -1 |
        sed -n 's,.* - \([0-9.]*\) *s/it.*,\1,p; s,.* - \([0-9.]*\) *it/s.*,1 \1,p' |
        awk 'NF == 2 { print 1 / $2; next } { print $1 }'
    sed -n 's/.*decode_first_stage completed, taking \([0-9.]*\)s.*/\1/p' "$dir/log" | tail -1
    common
}

common() {
    sed -n 's/.*Elapsed (wall clock).*: \([0-9:.]*\)$/\1/p' "$dir/log" |
        awk -F: '{ s = 0; for (i = 1; i <= NF; i++) s = s * 60 + $i; print s }'
    sed -n 's/.*Maximum resident set size (kbytes): //p' "$dir/log" | awk '{ print $1 / 1024 }'
}

i=1
while [ "$i" -le "$rounds" ]; do
    for who in limn peer; do
        "run_$who" | tr '\n' ' ' >"$dir/line"
        set -- $(cat "$dir/line")
        if [ $# -ne 4 ]; then
            echo "$who: its output was not understood:" >&2
            tail -5 "$dir/log" >&2
            exit 1
        fi
        cat "$dir/line" >>"$dir/$who"
        echo >>"$dir/$who"
        echo "round $i, $who: step $1 s, decode $2 s, whole run $3 s, peak $4 MiB"
    done
    i=$((i + 1))
done

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
column=1
printf '%-22s %10s %10s %8s\n' "median of $rounds" limn peer "peer/limn"
for what in "guided step, s" "decode, s" "whole run, s" "peak memory, MiB"; do
    a=$(awk -v c=$column '{ print $c }' "$dir/limn" | median)
    b=$(awk -v c=$column '{ print $c }' "$dir/peer" | median)
    awk -v w="$what" -v a="$a" -v b="$b" 'BEGIN { printf "%-22s %10.2f %10.2f %8.2f\n", w, a, b, b / a }'
    column=$((column + 1))
done
