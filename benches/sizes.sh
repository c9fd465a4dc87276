#!/usr/bin/env bash
# How long the counts take, and how much memory, with many messages waiting: benches/sizes.sh URL [MESSAGES]
#
# URL names a queue of its own that holds nothing yet: sqlite:FILE, or a database, a prefix or streams on a server of
# postgres://, mysql://, redis:// or nats://. It is filled by the engine's own means with messages of 200 bytes, and stays
# filled. AUDITQ names the program, target/release/auditq unless it is set.
set -euo pipefail

url=${1:?"which queue? sqlite:FILE, postgres://…, mysql://…, redis://… or nats://…"}
count=${2:-5000000}
auditq=$(realpath "${AUDITQ:-$(dirname "$0")/../target/release/auditq}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export AUDITQ_QUEUE_URL=$url AUDITQ_STORE_URL=sqlite:$folder/log.db AUDITQ_SPOOL_DIR=$folder/spool
payload=$(printf 'x%.0s' $(seq 186))

authority=${url#*://}
authority=${authority%%[/?]*}
host=${authority##*@}
port=${host##*:}
host=${host%%:*}

columns='(queue, payload, attempts, available_at, created_at)'
row="'audit-logs', '{\"data\":\"$payload\"}', 0, 1700000000, 1700000000"

fill_sqlite() {
  sqlite3 "${url#sqlite:}" "INSERT INTO jobs $columns
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $count) SELECT $row FROM n"
}
fill_postgres() { psql -q "$url" -c "INSERT INTO jobs $columns SELECT $row FROM generate_series(1, $count)" -c 'VACUUM ANALYZE jobs'; }
fill_mysql() {
  local login=${authority%@*} database=${url##*/}
  mariadb -h "$host" -P "${port/#$host/3306}" -u "${login%%:*}" "${database%%\?*}" -e "INSERT INTO jobs $columns SELECT $row FROM seq_1_to_$count"
}
# As auditq writes them; ids and numbers differ.
fill_redis() {
  local prefix=${url#*prefix=}
  [ "$prefix" != "$url" ] || prefix=
  local database=${url#*://*/}
  [ "$database" != "$url" ] || database=0
  awk -v n="$count" -v key="${prefix}queues:audit-logs" -v data="$payload" 'BEGIN { for (i = 1; i <= n; i++) {
    m = sprintf("{\"id\":\"%012d\",\"uuid\":\"%012d\",\"attempts\":0,\"data\":\"%s\"}", i, i, data)
    printf "*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(m), m } }' |
    redis-cli -h "$host" -p "$port" -n "${database%%\?*}" --pipe
}
fill_nats() {
  local prefix=${url#*://*/}
  [ "$prefix" != "$url" ] || prefix=auditq
  awk -v n="$count" -v p="$prefix" -v data="$payload" '
    BEGIN {
      printf "CONNECT {\"verbose\":false,\"headers\":true}\r\n"
      c = sprintf("{\"name\":\"%s-messages-audit-logs\",\"description\":\"auditq queue audit-logs\",\"subjects\":[\"%s.m.audit-logs.*\"],\"retention\":\"limits\",\"storage\":\"file\",\"discard\":\"new\",\"max_msgs_per_subject\":-1,\"num_replicas\":1,\"duplicate_window\":30000000000}", p, p)
      printf "PUB $JS.API.STREAM.CREATE.%s-messages-audit-logs %d\r\n%s\r\n", p, length(c), c
      system("sleep 2")
      m = sprintf("{\"data\":\"%s\"}", data)
      for (i = 1; i <= n; i++) {
        id = sprintf("00000000-0000-7000-8000-%012d", i)
        h = sprintf("NATS/1.0\r\nAuditq: 1700000000000000 0 %d -\r\nAuditq-Id: %s\r\n\r\n", length(m), id)
        printf "HPUB %s.m.audit-logs.%s %d %d\r\n%s%s\r\n", p, id, length(h), length(h) + length(m), h, m
        if (i % 200000 == 0) { fflush(); system("sleep 1") }
      }
      printf "PING\r\n"
    }' | (exec 3<>"/dev/tcp/$host/$port"; cat >&3; sleep 5)
}

"$auditq" migrate >/dev/null
engine=${url%%:*}
"fill_$engine"
"$auditq" migrate >/dev/null
measure() {
  for _ in 1 2 3; do
    /usr/bin/time -f '%e s  %M KiB  '"auditq $*" "$auditq" "$@" >"$folder/out" 2>"$folder/err"
    tail -1 "$folder/err"
  done
  head -c 300 "$folder/out"
  echo
}
measure queue size
measure queue failed --json --limit 10
measure monitor --stats --json
