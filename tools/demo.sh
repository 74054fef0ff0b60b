#!/bin/sh
# SPDX-License-Identifier: MIT
# What `make demo` shows: six prompts drawn, enlarged, looked at again, all on one sheet.
# usage: tools/demo.sh PROGRAM OUTDIR
# Every part that is not installed is left out and said: the pictures are then noise of the tests'
# random model, the enlarging is Lanczos, and nobody looks.
set -eu
limn=$1
out=$2
mkdir -p "$out"

# A bundled model by name: 0 when the program finds it.
has() { "$limn" info "$1" >/dev/null 2>&1; }

size="" model="" sees=""
if has mini-draw; then
    echo "demo: drawing with the bundled mini-draw model"
else
    echo "demo: mini-draw is not here; the tests' tiny random model draws noise instead"
    model="--model tests/golden/pipe/sd1" size="--width 64 --height 64"
fi
has mini-upscale || echo "demo: mini-upscale is not here; enlarging with Lanczos"
if ! "$limn" --help | grep -q '^ *see '; then
    echo "demo: this build has no \"limn see\"; nobody looks at the pictures"
elif has mini-see; then
    sees=yes
else
    echo "demo: mini-see is not here; nobody looks at the pictures"
fi

i=0
set --
while read -r prompt; do
    i=$((i + 1))
    file="$out/demo-$i.png"
    # shellcheck disable=SC2086
    "$limn" draw "$prompt" $model $size --seed $((40 + i)) --upscale 4 -o "$file" \
        --overwrite --quiet >/dev/null
    label="\"$prompt\""
    if [ "$sees" ]; then
        answer=$("$limn" see "$file" "What is in the picture?" --temperature 0 --max-tokens 40 \
            --quiet </dev/null | tr '\n' ' ')
        label="$label
mini-see: $answer"
        echo "  $file  \"$prompt\"  mini-see: $answer"
    else
        echo "  $file  \"$prompt\""
    fi
    set -- "$@" "$file" --label "$label"
done <<PROMPTS
a red apple on a light blue background
a red car on a yellow background
a sunflower
a penguin on a light blue background
a strawberry on a white background
a snowman
PROMPTS

# Shown in the terminal where there is one.
preview=""
[ -t 2 ] && preview="--preview auto"
# shellcheck disable=SC2086
"$limn" sheet "$@" $preview -o "$out/demo.png" --overwrite >/dev/null
echo "demo: all on one sheet: $out/demo.png"
echo "demo: draw your own:  $limn draw \"a lighthouse at dusk\" -o lighthouse.png"
echo "demo: a larger model: add --model FILE (any Stable Diffusion 1.x, 2.x or SDXL checkpoint)"
if "$limn" --help | grep -q '^ *serve '; then
    echo "demo: in the browser: $limn serve, then open the address that it prints"
fi
