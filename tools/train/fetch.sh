#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetch the art that the miniatures learn from, by package name, into DATA (first argument).
#
#   tools/train/fetch.sh DATA
#
# Needs npm and, for the Noto bitmaps, Debian's fonts-noto-color-emoji (installed with apt by whoever
# runs this: it is only looked for here). Rendering the flat set needs rsvg-convert (librsvg2-bin).
# Licences: Fluent emoji MIT (Microsoft), emojibase-data MIT, Noto emoji Apache-2.0 / OFL-1.1 (Google).
set -eu
data=${1:?usage: fetch.sh DATA}
mkdir -p "$data/npm"
cd "$data/npm"
for package in @lobehub/fluent-emoji-3d@1.1.0 fluentui-emoji@1.3.0 emojibase-data@17.0.0; do
    name=$(printf %s "${package%@*}" | tr -d @ | tr / -)
    [ -d "$name" ] && continue
    tarball=$(npm pack --silent "$package" | tail -n 1)
    mkdir -p "$name.part"
    tar -xzf "$tarball" -C "$name.part" --strip-components=1
    mv "$name.part" "$name"
    rm -f "$tarball"
done
font=/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
if [ ! -f "$font" ]; then
    echo "fetch.sh: $font is absent: apt-get install fonts-noto-color-emoji" >&2
    exit 1
fi
echo "art is in $data/npm and $font"
