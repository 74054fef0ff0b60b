#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures the bundled models that are there: sh tools/train/models_eval.sh LIMN [DATA]
# DATA (default build/train) keeps the art and the judge; both are made on the first run (some ten minutes).
# PYTHON names a python with the packages of tools/train/README.md; EVAL_OPTIONS goes to eval_draw.py,
# EVAL_SEE_OPTIONS to eval_see.py, EVAL_CIRCLE_OPTIONS to circle.py.
set -eu
status=0         # 1 when limn and its references differ; the other measures are taken all the same
limn=$1
data=${2:-build/train}
python=${PYTHON:-python3}
here=$(dirname "$0")
for module in numpy PIL safetensors torch torchvision diffusers transformers; do
    if ! "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$module') is None)"; then
        echo "models_eval: $python has no $module; install what this needs: \
$python -m pip install numpy pillow safetensors torch torchvision diffusers transformers" >&2
        exit 1
    fi
done
mkdir -p "$data"
if [ ! -d "$data/sprites" ]; then
    sh "$here/fetch.sh" "$data"
    "$python" "$here/render.py" --data "$data" --out "$data/sprites.part"
    mv "$data/sprites.part" "$data/sprites"
fi
if [ -e models/mini-draw/model_index.json ]; then
    if [ ! -e "$data/judge/judge.pt" ]; then
        "$python" "$here/train_classifier.py" --sprites "$data/sprites" --out "$data/judge" --styles 3d --minutes 3
    fi
    "$python" "$here/eval_draw.py" --limn "$limn" --model models/mini-draw --judge "$data/judge/judge.pt" \
        --sprites "$data/sprites" ${EVAL_OPTIONS:-}
    "$python" "$here/compare_draw.py" --limn "$limn" --model models/mini-draw || status=1
fi
if [ -e models/mini-upscale/mini-upscale.safetensors ]; then
    "$python" "$here/eval_upscale.py" --limn "$limn" --sprites "$data/sprites" \
        --photos "$data/photos_held" --draw models/mini-draw --model models/mini-upscale/mini-upscale.safetensors
fi
if [ -e models/mini-see/config.json ]; then
    "$python" "$here/eval_see.py" --model models/mini-see --sprites "$data/sprites" ${EVAL_SEE_OPTIONS:-}
    "$python" "$here/compare_see.py" --limn "$limn" --model models/mini-see --sprites "$data/sprites" || status=1
    if [ -e models/mini-draw/model_index.json ]; then
        "$python" "$here/circle.py" --limn "$limn" --draw models/mini-draw --see models/mini-see ${EVAL_CIRCLE_OPTIONS:-}
    fi
fi
exit "$status"
