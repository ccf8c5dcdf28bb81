#!/usr/bin/env bash
# Sees to it that nft and ip are there, for the tests of redirection; installs Debian's nftables and iproute2 when it may.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
have() { command -v nft >/dev/null && command -v ip >/dev/null; }
if have; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "redirection: installing Debian's nftables and iproute2"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nftables iproute2 >/dev/null
  have && exit 0
fi
echo "redirection: the tests need nft and ip. Install them with: sudo apt-get install nftables iproute2" >&2
exit 1
