#!/usr/bin/env bash
# The kernel with the address and undefined-behaviour sanitizers, in a copy of the tree, under its own tests.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=build/sanitized
rm -rf "$copy"
mkdir -p "$copy"
cp -r tierlog tiering tests benchmarks setup.py MANIFEST.in pyproject.toml README.md "$copy"
python="$PWD/.venv/bin/python"
cd "$copy"
rm -f tierlog/kernel/*.so
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1" "$python" setup.py -q build_ext --inplace
# The interpreter is not built with them: its own leaks are not looked for.
export ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$PWD" TIERLOG_KERNEL=require
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
exec "$python" -m pytest -q -n 0 -p no:cacheprovider tests/unit/kernel "$@"
