#!/bin/bash
# Installs schemathesis, in the versions of requirements.txt, into a virtual environment of the project's cache.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="$here/../../.cache/schemathesis"
stamp="$venv/requirements.txt"
cmp -s "$here/requirements.txt" "$stamp" && exit 0
fail() {
    echo "schemathesis cannot be installed: $1" >&2
    echo "make test needs Python 3.10 or newer with venv, and PyPI (or a mirror, as pip is configured) once." >&2
    exit 1
}
command -v python3 >/dev/null || fail "there is no python3"
rm -rf "$venv"
python3 -m venv "$venv" || fail "python3 -m venv failed (Debian: apt install python3-venv)"
"$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt" ||
    fail "pip could not fetch its packages; see above"
cp "$here/requirements.txt" "$stamp"
