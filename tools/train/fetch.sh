#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetch the art that the miniatures learn from, by package name, into DATA (first argument).
#
#   tools/train/fetch.sh DATA
#
# Needs npm and, for the Noto bitmaps, Debian's fonts-noto-color-emoji (installed with apt by whoever
# runs this: it is only looked for here). Rendering the flat set needs rsvg-convert (librsvg2-bin).
# Licences: photographs CC0 or public domain; Fluent emoji MIT (Microsoft), emojibase-data MIT, Noto emoji
# Apache-2.0 / OFL-1.1 (Google).
set -eu
data=${1:?usage: fetch.sh DATA}
mkdir -p "$data/npm"
# Nine free photographs and textures (public domain or CC0) from scikit-image's wheel, for mini-upscale; the
# picture of the cat is kept apart to measure with.
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version 3.10 -d "$data/wheel" \
    scikit-image==0.19.3
mkdir -p "$data/photos" "$data/photos_held"
"${PYTHON:-python3}" - "$data" <<'END'
import glob
import pathlib
import sys
import zipfile

data = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(glob.glob(str(data / "wheel" / "*.whl"))[0])
for name in ("astronaut.png", "brick.png", "camera.png", "coffee.png", "grass.png", "gravel.png",
             "hubble_deep_field.jpg", "moon.png", "rocket.jpg"):
    (data / "photos" / name).write_bytes(wheel.read("skimage/data/" + name))
(data / "photos_held" / "chelsea.png").write_bytes(wheel.read("skimage/data/chelsea.png"))
END
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
