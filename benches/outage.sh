#!/usr/bin/env bash
# A store that is away for an hour, while its queue goes on: benches/outage.sh [MINUTES [RATE]]
#
# A Redis and a PostgreSQL of their own in a temporary folder; two processes that record RATE statements a second each,
# and two workers with the shipped settings. PostgreSQL is stopped for MINUTES and started again, and nothing else is
# done. Prints what was recorded and what the log has, once the queue is empty or an hour after. OUTAGE_BIN names the
# folder of the two programs, built with `cargo build --release -p auditq-cli -p auditq-bench`.
set -euo pipefail

minutes=${1:-60}
rate=${2:-40}
cd "$(dirname "$0")/.."
bin=$(realpath "${OUTAGE_BIN:-target/release}")
work=$(mktemp -d /tmp/auditq-outage.XXXXXX)
chmod 755 "$work"
port=$((20000 + RANDOM % 10000))
redis=$((port + 1))
pids=()

as_postgres() {
  if [ "$(id -u)" -eq 0 ]; then setpriv --reuid postgres --regid postgres --init-groups -- "$@"; else "$@"; fi
}
sql() { psql -qAt -h 127.0.0.1 -p "$port" -U postgres -d "${2:-postgres}" -c "$1"; }
wait_for() {
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "error: waited in vain for $*; see $work" >&2
  return 1
}
start_store() {
  as_postgres "$postgres/postgres" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c external_pid_file="$work/data/own.pid" </dev/null >>"$work/store.log" 2>&1 &
  wait_for sql 'SELECT 1'
}
stop_store() { kill -INT "$(cat "$work/data/own.pid")"; }
finish() {
  local code=$?
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  stop_store 2>/dev/null || true
  redis-cli -p "$redis" SHUTDOWN NOSAVE >/dev/null 2>&1 || true
  if [ $code -eq 0 ]; then rm -rf "$work"; else echo "what is left is in $work" >&2; fi
}
trap finish EXIT

postgres=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres /usr/bin/postgres 2>/dev/null | tail -1)")
install -d -o "$(id -u)" "$work/redis" "$work/acks"
[ "$(id -u)" -ne 0 ] || install -d -o postgres -g postgres "$work/data"
as_postgres "$postgres/initdb" -D "$work/data" -A trust -U postgres >"$work/made.log"
start_store
sql 'CREATE DATABASE audit'
redis-server --bind 127.0.0.1 --port "$redis" --dir "$work/redis" --appendonly yes --save '' --daemonize yes >/dev/null
wait_for redis-cli -p "$redis" ping

export AUDITQ_QUEUE_URL=redis://127.0.0.1:$redis AUDITQ_STORE_URL=postgres://postgres@127.0.0.1:$port/audit
export AUDITQ_SPOOL_DIR=$work/spool
for number in 1 2; do
  (cd "$work" && exec "$bin/auditq" work >>"$work/work.log" 2>&1) &
  pids+=($!)
  "$bin/auditq-bench" torture-produce --number "$number" --rate "$rate" --acks "$work/acks/$number" \
    --dir "$work/spool" >>"$work/produce.log" 2>&1 &
  pids+=($!)
done
producers=("${pids[1]}" "${pids[3]}")

sleep 20
stop_store
began=$SECONDS
echo "the store is down for $minutes minutes" >&2
while [ $((SECONDS - began)) -lt $((minutes * 60)) ]; do
  sleep 60
  echo "$(((SECONDS - began) / 60)) min: queue $(redis-cli -p "$redis" LLEN queues:audit-logs) ready," \
    "$(redis-cli -p "$redis" ZCARD queues:audit-logs:reserved) held by workers" >&2
done
down=$((SECONDS - began))
start_store
began=$SECONDS
kill "${producers[@]}"
recorded=$(($(cat "$work"/acks/* | wc -c) / 8))
rows() { sql 'SELECT count(*) FROM audit_sql_logs' audit; }
while [ $((SECONDS - began)) -lt 3600 ] && [ "$(rows)" -lt "$recorded" ]; do sleep 1; done
drained=$((SECONDS - began))
# The workers' own last words are theirs; what is left in the queue would be seen here.
sleep 15
read -r stored distinct < <(sql 'SELECT count(*), count(DISTINCT event_id) FROM audit_sql_logs' audit | tr '|' ' ')
left=$(cd "$work" && "$bin/auditq" queue size)
failed=$(cd "$work" && "$bin/auditq" queue failed --json | wc -l)
printf '{"down_seconds":%s,"recorded":%s,"stored":%s,"distinct":%s,"left":%s,"failed":%s,"drained_in_seconds":%s}\n' \
  "$down" "$recorded" "$stored" "$distinct" "$left" "$failed" "$drained"
[ "$stored" -ge "$recorded" ] && [ "$stored" -eq "$distinct" ] && [ "$failed" -eq 0 ]
