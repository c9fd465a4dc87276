#!/usr/bin/env bash
# Torture on a server of its own: benches/torture.sh ENGINE [MINUTES] [OPTIONS OF auditq-bench torture]
#
# ENGINE is sqlite, postgres, mysql, redis or nats; Redis and NATS are no stores, so theirs is a SQLite file. The server
# keeps its data in a temporary folder and is stopped with SIGKILL twice, for 20 seconds each. AUDITQ_TORTURE_PROFILE=dev
# runs what the tests have built; AUDITQ_TORTURE_BINARY names one that was built before.
set -euo pipefail

engine=${1:?"which engine? sqlite, postgres, mysql, redis or nats"}
work=${AUDITQ_TORTURE_FOLDER:-}
port=${AUDITQ_TORTURE_PORT:-}

# PostgreSQL and MariaDB do not run as root.
as() {
  local user=$1
  shift
  if [ "$(id -u)" -eq 0 ]; then setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"; else "$@"; fi
}

belongs_to() { if [ "$(id -u)" -eq 0 ]; then chown "$1" "$work"; fi; }

wait_for() {
  for _ in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "error: the server does not answer; its log is $work/server.log" >&2
  return 1
}

kill_server() { kill -KILL "$(head -1 "$work/pid")"; }

postgres_bin() { dirname "$(ls /usr/lib/postgresql/*/bin/postgres /usr/bin/postgres 2>/dev/null | tail -1)"; }
postgres_sql() { psql -qAt -h 127.0.0.1 -p "$port" -U postgres -d "${2:-postgres}" -c "$1"; }
postgres_make() {
  belongs_to postgres
  as postgres "$(postgres_bin)/initdb" -D "$work/data" -A trust -U postgres >"$work/made.log"
}
postgres_start() {
  as postgres "$(postgres_bin)/postgres" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c external_pid_file="$work/pid" </dev/null >>"$work/server.log" 2>&1 &
  wait_for postgres_sql 'SELECT 1'
}
# SIGQUIT is what PostgreSQL calls immediate: no checkpoint, no flush; SIGKILL would leave its children behind.
postgres_stop() { kill -QUIT "$(head -1 "$work/pid")"; }
postgres_cut() { postgres_sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'audit'"; }
postgres_urls() {
  postgres_sql 'CREATE DATABASE audit'
  url="postgres://postgres@127.0.0.1:$port/audit"
  queue=$url store=$url
}

mysql_sql() { mariadb -h 127.0.0.1 -P "$port" -u torture -BN -e "$1"; }
mysql_make() {
  belongs_to mysql
  mariadb-install-db --no-defaults --datadir="$work/data" --user=mysql >"$work/made.log"
  echo "GRANT ALL ON *.* TO torture@'127.0.0.1' IDENTIFIED BY '';" >"$work/users.sql"
}
mysql_start() {
  as mysql mariadbd --no-defaults --datadir="$work/data" --port="$port" --bind-address=127.0.0.1 --skip-name-resolve \
    --socket="$work/data/socket" --pid-file="$work/data/pid" --init-file="$work/users.sql" --binlog-format=ROW \
    </dev/null >>"$work/server.log" 2>&1 &
  wait_for mysql_sql 'SELECT 1'
  cp "$work/data/pid" "$work/pid"
}
mysql_stop() { kill_server; }
mysql_cut() {
  local id
  # One that has gone by itself meanwhile cannot be killed.
  for id in $(mysql_sql "SELECT id FROM information_schema.processlist WHERE db = 'audit'"); do
    mysql_sql "KILL $id" 2>/dev/null || true
  done
}
mysql_urls() {
  mysql_sql 'CREATE DATABASE audit CHARACTER SET utf8mb4'
  url="mysql://torture@127.0.0.1:$port/audit"
  queue=$url store=$url
}

redis_make() { :; }
redis_start() {
  redis-server --bind 127.0.0.1 --port "$port" --dir "$work" --appendonly yes --save '' --pidfile "$work/pid" \
    --daemonize yes --logfile "$work/server.log" >/dev/null
  wait_for redis_answers
}
redis_answers() { redis-cli -p "$port" ping | grep -q PONG; }
redis_stop() { kill_server; }
redis_cut() { redis-cli -p "$port" CLIENT KILL TYPE normal SKIPME yes; }
redis_urls() { queue="redis://127.0.0.1:$port" store="sqlite:$work/audit.db"; }

nats_limit() { printf 'max_connections: %s\njetstream: {store_dir: "%s"}\n' "$1" "$work/data" >"$work/server.conf"; }
nats_make() { nats_limit 65536; }
nats_start() {
  nats-server -c "$work/server.conf" -a 127.0.0.1 -p "$port" -P "$work/pid" -l "$work/server.log" </dev/null >/dev/null 2>&1 &
  wait_for nats_answers
}
nats_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
nats_stop() { kill_server; }
# A server that is told to take fewer connections than it has closes those that are too many. No client is told to go in
# another way before 2.10.
nats_cut() {
  nats_limit 1
  kill -HUP "$(head -1 "$work/pid")"
  sleep 0.2
  nats_limit 65536
  kill -HUP "$(head -1 "$work/pid")"
}
nats_urls() { queue="nats://127.0.0.1:$port" store="sqlite:$work/audit.db"; }

sqlite_urls() { url="sqlite:$work/audit.db" queue=$url store=$url; }

# As the torture calls it in the middle.
if [ -n "$work" ]; then
  "${engine}_${AUDITQ_TORTURE_DO:?}"
  exit
fi

minutes=${2:-5}
shift $(($# < 2 ? $# : 2))
script=$(realpath "$0")
cd "$(dirname "$0")/.."
work=$(mktemp -d /tmp/auditq-torture.XXXXXX)
chmod 755 "$work"
port=$((20000 + RANDOM % 10000))
export AUDITQ_TORTURE_FOLDER=$work AUDITQ_TORTURE_PORT=$port

finish() {
  local code=$?
  [ ! -e "$work/pid" ] || "${engine}_stop" 2>/dev/null || true
  if [ $code -eq 0 ]; then rm -rf "$work"; else echo "what the server left is in $work" >&2; fi
}
trap finish EXIT

hooks=()
if [ "$engine" != sqlite ]; then
  "${engine}_make"
  "${engine}_start"
  hooks+=(--stop-server "AUDITQ_TORTURE_DO=stop '$script' $engine")
  hooks+=(--start-server "AUDITQ_TORTURE_DO=start '$script' $engine")
  hooks+=(--cut-connections "AUDITQ_TORTURE_DO=cut '$script' $engine")
fi
"${engine}_urls"
binary=${AUDITQ_TORTURE_BINARY:-}
if [ -z "$binary" ]; then
  profile=${AUDITQ_TORTURE_PROFILE:-release}
  cargo build --profile "$profile" --locked --quiet -p auditq-bench
  binary=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")/auditq-bench
fi
# What is built meanwhile must not change what the processes are started from.
cp "$binary" "$work/auditq-bench"
"$work/auditq-bench" torture --queue "$queue" --store "$store" --minutes "$minutes" "${hooks[@]}" "$@"
