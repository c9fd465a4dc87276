#!/usr/bin/env bash
# auditq beside the workers of several versions of Laravel, for real: benches/laravel-versions.sh FOLDER [ROOTS [JOBS [ENGINES]]]
#
# FOLDER is the application (copied). ROOTS are folders that hold a Debian release with its php-laravel-framework; one that
# is not there is made by debootstrap, as the release that it is named after: trixie has Laravel 10, sid 13 (half a gigabyte
# each). On each version and engine:
#   benches/laravel.sh   Laravel's own worker and auditq store the same JOBS jobs, and the two tables are equal
#   Laravel's commands   failed, retry, flush, monitor, clear, down, up, restart, and pause and resume where it has them, by
#                        the framework's own configuration where it has one (since Laravel 11)
# and at last, on each version, the tests that run in a real application. Prints a line of JSON a version and engine;
# ends at the first difference. Needs root, and the servers of the tests on this machine; by hand, not in CI. Build first:
# cargo build --release -p auditq-cli
set -euo pipefail

original=$(realpath "${1:?"which application? its folder"}")
roots=${2:-/tmp/auditq-roots/trixie /tmp/auditq-roots/sid}
jobs=${3:-300}
engines=${4:-sqlite mysql pgsql redis}
cd "$(dirname "$0")/.."
repository=$PWD
auditq=$(realpath "${AUDITQ_BINARY:-target/release/auditq}")
unset AUDITQ_BINARY
helper=$repository/crates/auditq-cli/tests/it/laravel_app.php
work=$(mktemp -d /tmp/auditq-versions.XXXXXX)
name=auditq_versions_$$
path=$PATH

finish() {
  [ -z "${worker:-}" ] || kill "$worker" 2>/dev/null || true
  rm -rf "$work"
  mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
  psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" 2>/dev/null || true
  for database in 0 1; do
    redis-cli -n $database --raw keys "*versions?$$?*" 2>/dev/null | xargs -r redis-cli -n $database del >/dev/null || true
  done
}
trap finish EXIT

fail() {
  echo "error: Laravel $version, $engine: $*" >&2
  tail -n 5 "$work"/*.log >&2 || true
  exit 1
}

make_root() {
  local root=$1
  command -v debootstrap >/dev/null || apt-get install -y --no-install-recommends debootstrap
  mkdir -p "$(dirname "$root")"
  debootstrap --variant=minbase "$(basename "$root")" "$root" http://deb.debian.org/debian
  chroot "$root" apt-get update
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    php-cli php-laravel-framework php-sqlite3 php-mysql php-pgsql php-redis php-mbstring php-xml php-bcmath
}

# A `php` that is the one of a root, in the folder that it is called from. It sees /tmp with what is mounted there, the
# application and the repository, in a namespace of its own, so that nothing stays mounted.
make_php() {
  local root=$1 folder=$2
  mkdir -p "$folder"
  cat >"$folder/php" <<SH
#!/bin/sh
exec unshare --mount sh -c '
root=\$1 here=\$2; shift 2
for place in /tmp /dev /proc "$repository" "$original"; do
  mkdir -p "\$root\$place" && mount --rbind "\$place" "\$root\$place" || exit 1
done
exec chroot "\$root" /bin/sh -c "cd \"\\\$1\"; shift; exec /usr/bin/php \"\\\$@\"" sh "\$here" "\$@"' sh "$root" "\$PWD" "\$@"
SH
  chmod +x "$folder/php"
}

# The application on an engine, in $shop. Where the framework has a configuration of its own, that is what it goes by
# for queue and cache.
make_shop() {
  local root=$1 framework=/usr/share/php/Illuminate/config
  shop=$work/shop
  rm -rf "$shop"
  cp -r "$original" "$shop"
  chmod -R u+w "$shop"
  local store=file connection=$engine queue=database
  cd "$shop"
  sed -i "s/'database' => \$name,/'database' => env('DB_DATABASE', \$name),/; s/'default' => \['host'/'cache' => ['host' => '127.0.0.1', 'port' => env('REDIS_PORT', 6379), 'database' => 1], &/" config/database.php
  if [ -d "$root$framework" ]; then
    store=database
    mkdir -p vendor/laravel/framework
    cp -r "$root$framework" vendor/laravel/framework/
    rm config/cache.php config/queue.php
    sed -i "s/env('REDIS_PREFIX', 'shop_database_')/env('REDIS_PREFIX', Illuminate\\\\Support\\\\Str::slug((string) env('APP_NAME', 'laravel')).'-database-')/" config/database.php
  else
    export REDIS_PREFIX=${name}_
  fi
  unset DB_USERNAME
  case $engine in
    mysql) mariadb -h 127.0.0.1 -u root -e "DROP DATABASE IF EXISTS $name; CREATE DATABASE $name"; export DB_USERNAME=root ;;
    pgsql) psql -qw -h 127.0.0.1 -U postgres -c "DROP DATABASE IF EXISTS $name" -c "CREATE DATABASE $name" 2>/dev/null; export DB_USERNAME=postgres ;;
    redis) queue=redis store=redis connection=sqlite ;;
  esac
  export APP_NAME="Versions $$" DB_CONNECTION=$connection DB_DATABASE=$name DB_DIR=$shop/storage QUEUE_CONNECTION=$queue CACHE_STORE=$store
  export CACHE_DRIVER=$store
  [ "$connection" != sqlite ] || DB_DATABASE=storage/audit.sqlite
  sed -i "s/'name' => 'shop'/'name' => env('APP_NAME')/" config/app.php
  env | grep -E '^(DB_|QUEUE_CONNECTION|CACHE_|REDIS_PREFIX)' >.env
  printf 'APP_NAME="%s"\n' "$APP_NAME" >>.env
  ./artisan migrate --force >"$work/migrate.log" 2>&1 || fail "it cannot be migrated"
  [ "$store" != database ] || php "$helper" "$shop" cache >"$work/cache.log" 2>&1 || fail "no table for the cache"
}

size() { "$auditq" queue size --laravel "$shop"; }
artisan() { ./artisan "$@" >"$work/artisan.log" 2>&1 || fail "artisan $* has failed"; }
dispatch() { artisan app:workload "$1" "--user=$2"; }

# Waits until the queue has this many jobs.
until_size() {
  for _ in $(seq 100); do
    [ "$(size)" != "$1" ] || return 0
    sleep 0.1
  done
  fail "$2: the queue holds $(size) jobs, and not $1"
}

# A worker leaves the queue alone between these commands: `holds WHAT BEGIN -- END`
holds() {
  local what=$1 begin=$2 end=$3
  # shellcheck disable=SC2086
  artisan $begin
  # It looks every three seconds.
  sleep 4
  dispatch 3 "$what"
  sleep 1
  [ "$(size)" = 3 ] || fail "$what: jobs were taken"
  # shellcheck disable=SC2086
  artisan $end
  until_size 0 "after $end"
}

commands() {
  local queue=$QUEUE_CONNECTION did="failed retry flush monitor clear down up"
  php "$helper" "$shop" break
  "$auditq" work --laravel "$shop" --stop-when-empty >"$work/work.log" 2>&1 || fail "auditq work has failed"
  artisan queue:failed
  grep -q 'ProcessAuditLog' "$work/artisan.log" || fail "queue:failed does not show what was given up"
  artisan queue:retry all
  until_size 1 queue:retry
  "$auditq" work --laravel "$shop" --stop-when-empty >"$work/work.log" 2>&1 || fail "auditq work has failed"
  artisan queue:flush
  [ -z "$("$auditq" queue failed --json --laravel "$shop")" ] || fail "queue:flush leaves failed jobs"
  dispatch 4 monitor
  artisan queue:monitor "$queue:audit-logs"
  grep -q '\[4\]\|[| ] 4 ' "$work/artisan.log" || fail "queue:monitor does not count the jobs"
  artisan queue:clear "$queue" --queue=audit-logs --force
  until_size 0 queue:clear
  "$auditq" work --laravel "$shop" >"$work/work.log" 2>&1 &
  worker=$!
  dispatch 2 worker
  until_size 0 "a worker"
  holds down down up
  if ./artisan list --raw | grep -q '^queue:pause '; then
    did="$did pause resume"
    holds pause "queue:pause $queue:audit-logs" "queue:resume $queue:audit-logs"
    holds all "queue:pause --all" "queue:resume --all"
  fi
  artisan queue:restart
  for _ in $(seq 100); do
    kill -0 "$worker" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$worker" 2>/dev/null || fail "queue:restart does not end the worker"
  wait "$worker" || fail "the worker has ended with $?"
  worker=
  grep -q 'a restart was asked for' "$work/work.log" || fail "the worker does not say why it has ended"
  did="$did restart"
  cd "$repository"
  echo "\"commands\":[\"${did// /\",\"}\"]" >"$work/did"
}

suites() {
  local suite passed
  for suite in laravel_app laravel_package; do
    PATH=$php:$path cargo test --quiet -p auditq-cli --test it -- "$suite" >"$work/$suite.log" 2>&1 || { cat "$work/$suite.log" >&2; fail "tests of $suite"; }
    passed=$(grep -o '[0-9]* passed' "$work/$suite.log")
    echo "{\"laravel\":\"$version\",\"tests\":\"$suite\",\"passed\":${passed% *}}"
  done
}

for root in $roots; do
  [ -x "$root/usr/bin/php" ] || make_root "$root" >&2
  # Where the package of Debian looks for the framework's configuration is not where it puts it.
  [ ! -d "$root/usr/share/php/Illuminate/config" ] || [ -e "$root/usr/share/config" ] || ln -s php/Illuminate/config "$root/usr/share/config"
  php=$work/php-$(basename "$root")
  make_php "$(realpath "$root")" "$php"
  version=$(PATH=$php:$path php -r 'require $argv[1]; echo Illuminate\Foundation\Application::VERSION;' "$original/bootstrap/autoload.php")
  for engine in $engines; do
    line=$(PATH=$php:$path AUDITQ_BINARY=$auditq benches/laravel.sh "$original" "$jobs" "$engine") || fail "what auditq stores is not what Laravel stores"
    (
      PATH=$php:$path
      make_shop "$root"
      commands
    )
    echo "${line%\}},\"laravel\":\"$version\",$(cat "$work/did")}"
  done
  engine="all engines"
  suites
done
