#!/bin/sh
# SPDX-License-Identifier: MIT
# Types and unit tests of the studio, and proof that the committed web/dist is what its sources build.
set -eu
cd "$(dirname "$0")/../web"
command -v npm >/dev/null || { echo "check_web: npm is missing (make install-web)" >&2; exit 1; }
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --ignore-scripts --no-audit --no-fund
npm run --silent check
npm run --silent test
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
npx vite build --outDir "$fresh" --emptyOutDir --logLevel error
diff -r "$fresh" dist || { echo "check_web: web/dist is stale: run 'make web' and commit it" >&2; exit 1; }
first=$(cat dist/index.html dist/assets/index-*.js dist/assets/index-*.css dist/assets/*.woff2 \
    $(sed -n 's/.*modulepreload.*href="\/\([^"]*\)".*/dist\/\1/p' dist/index.html) | gzip -9 | wc -c)
echo "ok first screen $first bytes gzip"
[ "$first" -lt 150000 ] || { echo "FAIL the first screen is larger than 150 kB" >&2; exit 1; }
