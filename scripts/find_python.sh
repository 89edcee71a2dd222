#!/bin/sh
# Prints the first Python that can hold Plumbline (3.11 or newer, with venv and ensurepip), or says why none can.
# PLUMB_PYTHON names one to use instead of searching.
set -eu

probe='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
for candidate in ${PLUMB_PYTHON:-python3 python3.13 python3.12 python3.11}; do
  if "$candidate" -c "$probe" >/dev/null 2>&1; then
    echo "$candidate"
    exit 0
  fi
done

{
  echo "No suitable Python was found. Tried: ${PLUMB_PYTHON:-python3 python3.13 python3.12 python3.11}."
  for candidate in ${PLUMB_PYTHON:-python3 python3.13 python3.12 python3.11}; do
    version=$("$candidate" --version 2>/dev/null || true)
    [ -z "$version" ] || echo "  $candidate is $version"
  done
  echo "Needed: Python 3.11 or newer with the venv module."
  echo "  Debian or Ubuntu: apt install python3 python3-venv"
  echo "  macOS:            install Python 3.11+ from python.org or a package manager"
  echo "  Another place:    make PLUMB_PYTHON=path/to/python3 run"
} >&2
exit 1
