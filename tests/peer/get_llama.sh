#!/bin/sh
# SPDX-License-Identifier: MIT
# Brings llama.cpp for tests/peer/llama.py into a folder: the libraries that node-llama-cpp ships, the
# sources of the same release that it brings along, and from these mtmd's Qwen3-VL part and gguf-split.
#
#   sh tests/peer/get_llama.sh DIR
#
# Needs npm, git, a C++ compiler; some minutes and 700 MB. Makes DIR/llama_peer and DIR/gguf-split.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
dir=$(pwd)
[ -d node_modules/node-llama-cpp ] || npm install --ignore-scripts --no-audit --no-fund --silent node-llama-cpp
[ -d src ] || git clone -q node_modules/node-llama-cpp/llama/gitRelease.bundle src
mkdir -p lib obj
ln -sf "$dir"/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/*.so lib/
flags="-O2 -DNDEBUG -Isrc/include -Isrc/ggml/include -Isrc/tools/mtmd -Isrc/vendor -Isrc/common"
for name in models/qwen2vl models/qwen3vl mtmd clip mtmd-image mtmd-audio; do
    object=obj/$(basename $name).o
    [ -f "$object" ] || c++ -std=c++17 $flags -c "src/tools/mtmd/$name.cpp" -o "$object"
done
[ -f obj/gguf-split.oo ] || c++ -std=c++17 $flags -c src/tools/gguf-split/gguf-split.cpp -o obj/gguf-split.oo
libraries="lib/libllama-common.so $(ls lib/libllama.v*.so) $(ls lib/libggml.v*.so) lib/libggml-base.so"
cc $flags -DWITH_MTMD "-DLLAMA_LIBRARIES=\"$dir/lib\"" -c "$here/llama_peer.c" -o obj/llama_peer.oo
# clip.cpp names the towers of every model; those that are not here are never called.
c++ obj/llama_peer.oo obj/*.o -o llama_peer $libraries -lm -lpthread "-Wl,-rpath,$dir/lib" \
    -Wl,--unresolved-symbols=ignore-all
c++ obj/gguf-split.oo -o gguf-split $libraries "-Wl,-rpath,$dir/lib" -Wl,--unresolved-symbols=ignore-in-shared-libs
./llama_peer features
