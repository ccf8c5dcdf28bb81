#!/bin/bash
# Holds a live global and a zone that joined it to their OpenAPI documents: no failure of the server, no answer that the document
# does not have. The same requests each time; both planes at once, about a minute.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../.."
bin="${BIN:-$root/target/debug}"
seconds="${SECONDS_EACH:-60}"
"$here/install.sh"

data="$(mktemp -d /tmp/atoll-schemathesis.XXXXXX)"
pids=()
finish() {
    status=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $status -eq 0 ]; then rm -rf "$data"; else echo "what was said is in $data" >&2; fi
}
trap finish EXIT

# Below the ports that the kernel gives to clients: none is taken between this look and the start of the programs.
read -r -a port < <(python3 -c '
import random, socket
def free(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0
print(*[port for port in random.sample(range(20000, 32000), 30) if free(port)][:9])')
at() { echo "127.0.0.1:${port[$1]}"; }
await() { # what, command…
    local what="$1"
    shift
    for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
    echo "$what did not start; its log:" >&2
    tail -20 "$data"/*.log >&2
    exit 1
}
token() { "$root/.cache/schemathesis/bin/python" -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["token"].strip())' "$1/operator.yaml"; }
call() { curl --silent --fail --max-time 5 "$@"; }

"$bin/global-cp" --data-dir "$data/global" --rest-listen "$(at 0)" --rest-tls-listen "$(at 1)" --diagnostics-listen "$(at 2)" \
    --link-listen "$(at 3)" --join-listen "$(at 4)" >"$data/global.log" 2>&1 &
pids+=($!)
await global call "http://$(at 0)/ready"
operator="$(token "$data/global")"
call -H "Authorization: Bearer $operator" -H 'Content-Type: application/json' -d '{"zone":"azure"}' \
    "http://$(at 0)/tokens/zone" >"$data/join-token"
chmod 600 "$data/join-token"
"$bin/zone-cp" --zone azure --data-dir "$data/zone" --global "$(at 3)" --join "$(at 4)" --join-token-file "$data/join-token" \
    --rest-listen "$(at 5)" --rest-tls-listen "$(at 6)" --diagnostics-listen "$(at 7)" --dp-listen "$(at 8)" >"$data/zone.log" 2>&1 &
pids+=($!)
await "the zone" call "http://$(at 5)/ready"

judge() { # name, address
    # One worker: Python before 3.11.8 counts the depth of its parser over all threads, and fails now and then where two parse.
    call -H "Authorization: Bearer $(token "$data/$1")" "http://$2/openapi.json" >"$data/$1.json"
    SCHEMATHESIS_HOOKS=checks PYTHONPATH="$here" "$root/.cache/schemathesis/bin/schemathesis" run "$data/$1.json" --url "http://$2" \
        --header "Authorization: Bearer $(token "$data/$1")" --generation-deterministic --max-examples 4 --max-time "$seconds" \
        --phases examples,coverage,fuzzing --continue-on-failure --workers 1 --request-timeout 15 --no-color --warnings off \
        --checks no_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        >"$data/$1.report" 2>&1
}
cd "$data"
judge global "$(at 0)" &
first=$!
judge zone "$(at 5)" &
second=$!
failed=0
for job in "$first global" "$second zone"; do
    read -r pid name <<<"$job"
    if wait "$pid"; then
        echo "schemathesis: $name holds: $(grep -E '^ *[0-9]+ generated' "$data/$name.report" | head -1 || true)"
    else
        failed=1
        [ -f "$data/$name.report" ] || echo "schemathesis: $name: it could not be asked for its document" >&2
        echo "schemathesis: $name does not do what its OpenAPI document says:" >&2
        sed -n '/FAILURES/,$p' "$data/$name.report" 2>/dev/null | cut -c1-300 | head -150 >&2 || true
    fi
done
for pid in "${pids[@]}"; do
    kill -0 "$pid" || { echo "a plane ended" >&2; failed=1; }
done
exit $failed
