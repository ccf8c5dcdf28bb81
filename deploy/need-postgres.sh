#!/usr/bin/env bash
# Sees to it that Postgres' server binaries are there; installs Debian's postgresql when it may.
set -euo pipefail
have() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null; }
if have; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "postgres: installing Debian's postgresql"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  have && exit 0
fi
echo "postgres: the tests need Postgres' server binaries. Install them with: sudo apt-get install postgresql" >&2
exit 1
