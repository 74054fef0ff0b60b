#!/bin/sh
# SPDX-License-Identifier: MIT
# What `make demo` shows: pictures from six prompts, enlarged, on one sheet, and where they are.
# usage: tools/demo.sh PROGRAM OUTDIR
set -eu
limn=$1
out=$2
mkdir -p "$out"

size="" model=""
upscaler=Lanczos
if [ -d models/mini-draw ]; then
    echo "demo: drawing six prompts with the bundled mini-draw model"
else
    # Random weights of the tests: the whole way works, the pictures are noise.
    echo "demo: no bundled model in this tree; drawing noise with the tests' tiny random model"
    model="--model tests/golden/pipe/sd1" size="--width 64 --height 64"
fi
[ -d models/mini-upscale ] && upscaler=mini-upscale

i=0
files=""
while read -r prompt; do
    i=$((i + 1))
    file="$out/demo-$i.png"
    # shellcheck disable=SC2086
    "$limn" draw "$prompt" $model $size --steps 20 --seed $((40 + i)) --upscale 4 \
        --upscaler "$upscaler" -o "$file" --overwrite --quiet
    echo "  $file  $prompt"
    files="$files $file"
done <<PROMPTS
a red apple on a light blue background
a cat, fluent 3d
a blue car on a yellow background
two stars on a black background
a big tree, noto emoji
a house
PROMPTS

# shellcheck disable=SC2086
"$limn" sheet $files -o "$out/demo.png" --overwrite --quiet
echo "demo: all on one sheet: $out/demo.png"
echo "demo: draw your own with: $limn draw \"a lighthouse at dusk\" -o lighthouse.png"
echo "demo: with a larger model: $limn draw \"...\" --model FILE (any Stable Diffusion 1.x, 2.x or SDXL checkpoint)"
