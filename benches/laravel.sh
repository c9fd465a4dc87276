#!/usr/bin/env bash
# auditq beside Laravel's own worker, on the same jobs of a real application: benches/laravel.sh FOLDER [JOBS [ENGINES]]
#
# FOLDER is the application (copied; its databases get names of their own). On each engine it dispatches JOBS jobs; one
# `queue:work` stores them, the jobs are put back, and one `auditq work`, as it is shipped, stores them. Prints rows a second of each and the
# ratio, start of the process included and making tables not, once the two tables were found equal, and a line of JSON an engine. Servers are
# those of the tests, on this machine. Build first: cargo build --release -p auditq-cli
set -euo pipefail

original=${1:?"which application? its folder"}
jobs=${2:-5000}
engines=${3:-sqlite mysql pgsql redis}
cd "$(dirname "$0")/.."
auditq=$(realpath "${AUDITQ_BINARY:-target/release/auditq}")
unset AUDITQ_BINARY
helper=$(realpath crates/auditq-cli/tests/it/laravel_app.php)
shop=$(mktemp -d /tmp/auditq-shop.XXXXXX)
name=auditq_bench_$$

finish() {
  rm -rf "$shop"
  mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
  psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
}
trap finish EXIT

cp -r "$original/." "$shop"
chmod -R u+w "$shop"
sed -i "s/'database' => \$name,/'database' => env('DB_DATABASE', \$name),/" "$shop/config/database.php"

now() { date +%s%N; }
rows() { php "$helper" "$shop" rows | sed 's/,"created_at":"[^"]*"//'; }

for engine in $engines; do
  rm -rf "$shop/storage" "$shop/.env"
  export QUEUE_CONNECTION=database CACHE_DRIVER=file DB_CONNECTION=$engine DB_DATABASE=$name DB_DIR=$shop/storage
  export REDIS_PREFIX=${name}_
  case $engine in
    sqlite) DB_DATABASE=storage/audit.sqlite ;;
    mysql) mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name; CREATE DATABASE $name" ; export DB_USERNAME=root ;;
    pgsql) psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" -c "CREATE DATABASE $name" 2>/dev/null; export DB_USERNAME=postgres ;;
    redis) QUEUE_CONNECTION=redis DB_CONNECTION=sqlite DB_DATABASE=storage/audit.sqlite ;;
  esac
  env | grep -E '^(QUEUE_CONNECTION|CACHE_DRIVER|DB_|REDIS_PREFIX)' >"$shop/.env"
  (cd "$shop" && ./artisan migrate --force && ./artisan app:workload "$jobs" --user=alice) >"$shop/made.log"
  php "$helper" "$shop" save
  began=$(now)
  (cd "$shop" && ./artisan queue:work --queue=audit-logs --stop-when-empty --tries=3 >/dev/null 2>&1)
  laravel=$(($(now) - began))
  rows >"$shop/laravel.json"
  php "$helper" "$shop" restore
  # As `artisan migrate` is not in Laravel's time.
  (cd "$shop" && "$auditq" migrate --laravel "$shop" >/dev/null 2>"$shop/migrate.log")
  began=$(now)
  (cd "$shop" && "$auditq" work --laravel "$shop" --stop-when-empty >/dev/null) 2>"$shop/work.log"
  ours=$(($(now) - began))
  rows >"$shop/auditq.json"
  cmp "$shop/laravel.json" "$shop/auditq.json" || { echo "error: the two tables differ" >&2; exit 1; }
  stored=$(wc -l <"$shop/auditq.json")
  awk -v engine="$engine" -v rows="$stored" -v theirs="$laravel" -v ours="$ours" 'BEGIN {
    printf "{\"engine\":\"%s\",\"rows\":%d,\"laravel_rows_per_second\":%.0f,\"auditq_rows_per_second\":%.0f,\"ratio\":%.1f}\n",
      engine, rows, rows * 1e9 / theirs, rows * 1e9 / ours, theirs / ours }'
done
